#!/usr/bin/env bash
# Runs a command in an emulated 64-bit Arm Debian, as the user of a Raspberry Pi would.
#
# Usage: in_arm_debian.sh FOLDER COMMAND, as root. FOLDER is what tools/emulation/debian.sh made. The
# kernel starts the emulator for every Arm program, so that pip can build packages. It is told so in a
# user namespace, which takes Linux 6.7 and changes nothing for other programs of this machine. Of the
# caller's environment only pip's variables are handed on.
set -euo pipefail
root=$(realpath "$1")
command=$2
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root/etc/ssl/certs" "$root/root"

mapfile -t pip < <(env | grep '^PIP_')
# An ELF header of 64 bits for machine 183, which is AArch64. F: the emulator is opened now, outside.
rule=':aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:'
rule+='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'
rule+="$(command -v qemu-aarch64-static):F"
export root rule
unshare --user --map-root-user --mount --pid --fork bash -c '
  set -euo pipefail
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  printf "%s" "$rule" > /proc/sys/fs/binfmt_misc/register
  mount --rbind /etc/ssl/certs "$root/etc/ssl/certs"
  mount --rbind /dev "$root/dev"
  exec chroot "$root" "$@"
' bash /usr/bin/env --ignore-environment HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  QEMU_CPU=cortex-a76 "${pip[@]}" /bin/bash -c "cd /root && $command"
