#!/bin/bash
# install.sh [--no-install] GROUP...: installs the packages of these groups of tools/packages.txt
# that are missing, after saying which and why. Quick and silent when there is nothing to do.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
install=yes
if [ "${1:-}" = --no-install ]; then
  install=no
  shift
fi
if ! command -v dpkg-query >/dev/null; then
  [ $install = no ] && exit 0
  echo "install.sh: this is no Debian; install what tools/packages.txt lists, then use --no-install" >&2
  exit 1
fi

declare -A purpose
wanted=()
while read -r group package why; do
  for g in "$@"; do
    [ "$group" = "$g" ] && wanted+=("$package") && purpose[$package]=$why
  done
done < <(grep -v '^#' "$here/packages.txt")

present=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
missing=()
for package in "${wanted[@]}"; do
  grep -qx "$package installed" <<<"$present" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

{
  [ $install = yes ] && echo "Hadal needs these Debian packages, installed now with apt-get:" \
                     || echo "Not installed, as --no-install asks:"
  for package in "${missing[@]}"; do printf '  %-24s %s\n' "$package" "${purpose[$package]}"; done
} >&2
[ $install = no ] && exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install.sh: installing needs root and there is no sudo; run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  if ! sudo -n true 2>/dev/null && [ ! -t 0 ]; then
    echo "install.sh: sudo asks for a password and there is no terminal; run: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -y -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1 </dev/null
}
# The first try fails where package lists are empty or old.
if ! apt install --no-install-recommends "${missing[@]}" &&
   ! { apt update && apt install --no-install-recommends "${missing[@]}"; }; then
  tail -n 30 "$log" >&2
  echo "install.sh: apt-get could not install ${missing[*]}" >&2
  exit 1
fi
