#!/bin/bash
# aarch64.sh [CMAKE-ARGUMENT...]: cross-compiles the libraries for aarch64 (scalar kernels only) into
# build/aarch64 and runs a quick subset of the unit tests under qemu-user. Debian's arm64 packages
# of tools/packages.txt are unpacked into build/aarch64-sysroot by an apt of its own: the host's
# architectures and package lists stay as they are, and root is not needed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sysroot=$root/build/aarch64-sysroot
dir=$root/build/aarch64

# What runs under emulation: folders below the model, without tests that are long even natively.
suites=(core_tests kernels_tests io_tests text_tests ops_tests)
filter='*-*Slow*:*slow*:*Stress*:*stress*:*million*:*EveryCodePoint*'
seconds_per_suite=120

make_sysroot() {
  local apt=$sysroot.apt packages key
  mapfile -t packages < <(awk '$1 ~ /^(build|test)$/ && $2 ~ /-dev$/ {print $2}' "$root/tools/packages.txt")
  key=$(printf '%s\n' 1 "${packages[@]}" | sha256sum | cut -c1-16)  # 1: how this function unpacks
  [ -e "$sysroot/.complete-$key" ] && return
  rm -rf "$sysroot" "$apt"
  mkdir -p "$sysroot" "$apt"/{state/lists/partial,cache/archives/partial}
  : >"$apt/status"
  local options=(-q -o APT::Architecture=arm64 -o APT::Architectures=arm64
    -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
    -o APT::Sandbox::User= -o Acquire::Languages=none -o Debug::NoLocking=1)
  {
    # Sources without arm64 packages may fail; the download below tells whether it matters.
    apt-get "${options[@]}" update || true
    apt-get "${options[@]}" -y --no-install-recommends --download-only install "${packages[@]}"
  } >"$apt/log" 2>&1 || { tail -n 20 "$apt/log"; return 1; }
  local deb
  for deb in "$apt"/cache/archives/*.deb; do
    case $(basename "$deb") in  # these come with the cross compiler
      libc6*|libc-dev*|linux-libc*|libstdc++*|libgcc*|gcc-*|libcrypt*|libgomp*|libnsl*|libtirpc*) ;;
      *) dpkg-deb -x "$deb" "$sysroot" ;;
    esac
  done
  rm -rf "$apt"
  touch "$sysroot/.complete-$key"
}

make_sysroot
cmake -S "$root" -B "$dir" -G Ninja -DCMAKE_BUILD_TYPE=Release -DHADAL_TESTS=ON -DHADAL_BENCH=OFF \
  -DCMAKE_TOOLCHAIN_FILE="$root/cmake/aarch64.cmake" "$@" >"$dir.log" 2>&1 ||
  { tail -n 30 "$dir.log"; exit 1; }

present=()
for suite in "${suites[@]}"; do
  grep -qx "$suite" "$dir/test_executables.txt" && present+=("$suite")
done
mapfile -t libraries < <(ninja -C "$dir" -t targets all | sed -nE 's/^(libhadal_[a-z]+\.a): .*/\1/p')
"$root/tools/build.sh" aarch64 -- "${libraries[@]}" "${present[@]}"

# shellcheck disable=SC2086
"$root/tools/run_tests.py" "$dir" "${present[@]}" --filter "$filter" --timeout $seconds_per_suite \
  --wrapper "qemu-aarch64-static -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=$sysroot/usr/lib/aarch64-linux-gnu"
