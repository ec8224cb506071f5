#!/bin/bash
# build.sh PRESET [CMAKE-ARGUMENT...] [-- TARGET...]: configures build/PRESET when it is new or
# CMAKE-ARGUMENTs are given, and builds. Prints to stderr: progress on a terminal, else only errors.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preset=$1
shift
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  options+=("$1")
  shift
done
[ "${1:-}" = -- ] && shift
dir=$root/build/$preset
mkdir -p "$dir"
log=$dir/build.log

configure() {
  local generator=()
  [ -e "$dir/CMakeCache.txt" ] || command -v ninja >/dev/null || generator=(-G "Unix Makefiles")
  (cd "$root" && cmake --preset "$preset" "${generator[@]}" "${options[@]}")
}
build() {
  if [ -e "$dir/build.ninja" ]; then
    ninja -C "$dir" "$@"
  else
    cmake --build "$dir" --parallel "$(nproc)" ${1:+--target "$@"}
  fi
}

if ! command -v cmake >/dev/null; then
  echo "build.sh: there is no cmake; run without --no-install, or install what tools/packages.txt lists" >&2
  exit 1
fi
if [ ${#options[@]} -gt 0 ] || ! { [ -e "$dir/build.ninja" ] || [ -e "$dir/Makefile" ]; }; then
  if ! configure >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
fi
if [ -t 2 ]; then
  build "$@" >&2
elif ! build "$@" >"$log" 2>&1; then
  grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking|Checking|Generating|Refreshing) |^ninja: Entering' "$log" |
    head -n 150 >&2
  echo "build.sh: the build of $preset failed; the whole log: $log" >&2
  exit 1
fi
