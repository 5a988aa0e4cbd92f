#!/usr/bin/env bash
# Unpacks a small Debian of another architecture, for `qemu-*-static -L FOLDER`.
#
# Usage: debian.sh FOLDER SUITE ARCHITECTURE PACKAGE [PACKAGE ...]. SUITE and ARCHITECTURE are Debian's
# names: bookworm, trixie or sid, and arm64 or armhf. Nothing is run, so what packages do when they are configured is not done. Packages
# come from DEBIAN_MIRROR. The emulator is installed where it is missing, which takes root.
set -euo pipefail
root=$(realpath --canonicalize-missing "$1")
suite=$2
architecture=$3
shift 3
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

fail() {
  echo "make: cannot prepare the emulation of $suite on $architecture: $1" >&2
  exit 1
}

for command in apt-get dpkg-deb; do
  command -v "$command" > /dev/null || fail "it takes apt-get, that is Debian or a relative"
done
mkdir -p "$(dirname "$root")"
log=$root.log
if ! command -v qemu-aarch64-static > /dev/null; then
  [ "$(id --user)" = 0 ] || fail "as root, run: apt-get install qemu-user-static"
  echo "Installing qemu-user-static."
  { apt-get update --quiet=2 &&
    apt-get install --quiet=2 --yes --no-install-recommends qemu-user-static; } > "$log" 2>&1 ||
    fail "apt-get install qemu-user-static failed, see $log"
fi

# Next to the root lies an apt with everything of its own: sources, package lists, downloads.
apt=$root.apt
rm -rf "$root" "$apt"
mkdir -p "$root/proc" "$apt/lists/partial" "$apt/archives/partial"
: > "$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
  > "$apt/sources.list"
cat > "$apt/apt.conf" <<END
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
END
export APT_CONFIG=$apt/apt.conf
apt-get update --quiet=2 > "$log" 2>&1 || fail "no package lists from $mirror, see $log"
apt-get install --quiet=2 --yes --download-only "$@" >> "$log" 2>&1 ||
  fail "no $suite packages for $architecture from $mirror, see $log"

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
  cat <<END
processor	: $processor
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

END
done > "$root/proc/cpuinfo"
echo "Model		: Raspberry Pi 4 Model B Rev 1.4" >> "$root/proc/cpuinfo"
