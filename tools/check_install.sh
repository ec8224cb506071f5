#!/bin/bash
# check_install.sh [--keep] [--dir DIR] [COMMAND...]: proves that Hadal installs where nothing is
# installed. Makes a minimal Debian 12 (debootstrap minbase, the host's mirror and apt settings) in
# DIR, puts a checkout of HEAD into it and runs each COMMAND there as root; default:
#   "./run --version" "./run demo --steps 5"
# To run after every change of dependencies. Needs root, debootstrap, 3 GB. The bare system is kept
# as DIR/base.tar for the next time; --keep leaves the used one in DIR/root.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$root/build/check_install
keep=no
while [[ "${1:-}" == --* ]]; do
  case $1 in
    --keep) keep=yes ;;
    --dir) work=$(realpath -m "$2"); shift ;;
    *) echo "check_install.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
commands=("$@")
[ $# -gt 0 ] || commands=("./run --version" "./run demo --steps 5")
[ "$(id -u)" = 0 ] || { echo "check_install.sh: needs root for chroot" >&2; exit 1; }
"$root/tools/install.sh" rootfs

inside=$work/root
system() {  # runs a command in the new system, with mounts that vanish with it
  # shellcheck disable=SC2016
  unshare --mount --pid --fork bash -c '
    mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp" &&
    exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
      chroot "$0" /bin/bash -c "$1"' "$inside" "$1"
}

mkdir -p "$work"
rm -rf --one-file-system "$inside"
if [ ! -e "$work/base.tar" ]; then
  # The host's mirror of bookworm itself, whatever else its sources name.
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(CODENAME) $(LABEL) $(REPO_URI)' 'Identifier: Packages' |
    awk '$1 == "bookworm" && $2 == "Debian" {print $3; exit}')
  [ -n "$mirror" ] || { echo "check_install.sh: the host has no bookworm sources" >&2; exit 1; }
  debootstrap --variant=minbase bookworm "$inside" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    { tail "$work/debootstrap.log"; exit 1; }
  tar -C "$inside" -cf "$work/base.tar" .
else
  mkdir "$inside"
  tar -C "$inside" -xf "$work/base.tar"
fi

# What the network of this machine asks for: name resolution, certificates, apt's own settings. The
# package lists stay empty, as on a machine that was never updated.
cp -L /etc/resolv.conf /etc/hosts "$inside/etc/"
apt-config dump | grep -E '^Acquire::(http|https|Proxy|Retries)' >"$inside/etc/apt/apt.conf.d/90host" || true
if [ -e /etc/apt/sources.list.d/debian.sources ]; then
  rm -f "$inside/etc/apt/sources.list"
  cp /etc/apt/sources.list.d/debian.sources "$inside/etc/apt/sources.list.d/"
fi
rm -rf "$inside"/var/lib/apt/lists/*

mkdir "$inside/hadal"
git -C "$root" archive HEAD | tar -C "$inside/hadal" -x
status=0
for command in "${commands[@]}"; do
  start=$SECONDS
  system "cd /hadal && $command" || status=1
  echo "== $command: $([ $status = 0 ] && echo good || echo BAD), $((SECONDS - start)) s"
  [ $status = 0 ] || break
done
[ $keep = yes ] || rm -rf --one-file-system "$inside"
exit $status
