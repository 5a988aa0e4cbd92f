#!/usr/bin/env bash
# Runs a command in a fresh Debian, in a copy of these sources, as the user of a new machine would.
#
# Usage: in_debian.sh FOLDER SUITE COMMAND, as root. SUITE is a name of Debian's: bookworm, trixie.
# The first time, debootstrap makes the Debian in FOLDER, with the packages that docs/start.md asks
# for and git, and nothing else; they come from DEBIAN_MIRROR. What a command left beside the sources
# is deleted before the next one; of the caller's environment only pip's variables are handed on.
set -euo pipefail
root=$(realpath --canonicalize-missing "$1")
suite=$2
command=$3
sources=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

fail() {
  echo "make: cannot run \`$command\` in a Debian $suite: $1" >&2
  exit 1
}

[ "$(id --user)" = 0 ] || fail "debootstrap and chroot take root"
command -v debootstrap > /dev/null || fail "apt install debootstrap"
if [ ! -e "$root/made" ]; then
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  echo "Making a Debian $suite."
  debootstrap --variant=minbase --include=ca-certificates,g++,git,make,python3-venv \
    "$suite" "$root" "$mirror" > "$root.log" 2>&1 || fail "see $root.log"
  touch "$root/made"
fi

rm -rf "$root/root/bireal-keras"
mkdir -p "$root/root/bireal-keras"
git -C "$sources" ls-files -z |
  tar --create --directory "$sources" --null --files-from - |
  tar --extract --directory "$root/root/bireal-keras"
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"

mapfile -t pip < <(env | grep '^PIP_')
# The mounts end with the namespace. Certificates are this machine's: its mirrors may need them.
export root
unshare --mount --pid --fork bash -c '
  set -euo pipefail
  mount --bind /etc/ssl/certs "$root/etc/ssl/certs"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  exec chroot "$root" "$@"
' bash env --ignore-environment HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "${pip[@]}" \
  bash -c "cd /root/bireal-keras && $command"
