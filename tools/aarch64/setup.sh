#!/usr/bin/env bash
# Prepares an x86_64 Debian to run Python for arm64.
#
# Usage: setup.sh FOLDER. Installs the emulator, the cross compiler and llvm-mca where they are
# missing, which takes root, and puts the arm64 files of a small Debian 12 into FOLDER, for
# `qemu-aarch64-static -L FOLDER`. Packages come from DEBIAN_MIRROR.
set -euo pipefail
root=$(realpath --canonicalize-missing "$1")
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages="qemu-user-static g++-aarch64-linux-gnu llvm-19"

fail() {
  echo "make: cannot prepare the arm64 emulation: $1" >&2
  exit 1
}

present() {
  for command in "$@"; do
    command -v "$command" > /dev/null || return 1
  done
}

present apt-get dpkg-deb || fail "it takes apt-get, that is Debian or a relative"
mkdir -p "$(dirname "$root")"
log=$root.log
if ! present qemu-aarch64-static aarch64-linux-gnu-g++ llvm-mca-19; then
  [ "$(id --user)" = 0 ] || fail "as root, run: apt-get install $packages"
  echo "Installing $packages."
  { apt-get update --quiet=2 &&
    apt-get install --quiet=2 --yes --no-install-recommends $packages; } > "$log" 2>&1 ||
    fail "apt-get install $packages failed, see $log"
fi

# Next to the root, an apt with everything of its own: sources, package lists, downloads.
apt=$root.apt
rm -rf "$root" "$apt"
mkdir -p "$root/proc" "$apt/lists/partial" "$apt/archives/partial"
: > "$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" \
  > "$apt/sources.list"
cat > "$apt/apt.conf" <<EOF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
EOF
export APT_CONFIG=$apt/apt.conf
apt-get update --quiet=2 > "$log" 2>&1 || fail "no package lists from $mirror, see $log"
apt-get install --quiet=2 --yes --download-only python3.11 libstdc++6 libgomp1 \
  >> "$log" 2>&1 || fail "no arm64 packages from $mirror, see $log"

for directory in bin lib sbin; do
  mkdir -p "$root/usr/$directory"
  ln -s "usr/$directory" "$root/$directory"
done
for package in "$apt"/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$root" --keep-directory-symlink
done
rm -r "$apt"

# LiteRT asks what CPU this is, and would find the host's. A Raspberry Pi 4 answers so:
for processor in 0 1 2 3; do
  cat <<EOF
processor	: $processor
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

EOF
done > "$root/proc/cpuinfo"
echo "Model		: Raspberry Pi 4 Model B Rev 1.4" >> "$root/proc/cpuinfo"
