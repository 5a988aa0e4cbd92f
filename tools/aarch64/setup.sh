#!/usr/bin/env bash
# Prepares an x86_64 Debian to run Python for arm64.
#
# Usage: setup.sh FOLDER. Installs the cross compiler and llvm-mca where they are missing, which
# takes root, and puts the arm64 files of a small Debian 12 into FOLDER.
set -euo pipefail
root=$1
packages="g++-aarch64-linux-gnu llvm-19"

fail() {
  echo "make: cannot prepare the arm64 emulation: $1" >&2
  exit 1
}

present() {
  for command in "$@"; do
    command -v "$command" > /dev/null || return 1
  done
}

if ! present aarch64-linux-gnu-g++ llvm-mca-19; then
  present apt-get || fail "it takes apt-get, that is Debian or a relative"
  [ "$(id --user)" = 0 ] || fail "as root, run: apt-get install $packages"
  mkdir -p "$(dirname "$root")"
  echo "Installing $packages."
  { apt-get update --quiet=2 &&
    apt-get install --quiet=2 --yes --no-install-recommends $packages; } > "$root.log" 2>&1 ||
    fail "apt-get install $packages failed, see $root.log"
fi
"$(dirname "$0")/../emulation/debian.sh" "$root" bookworm arm64 python3.11 libstdc++6 libgomp1
