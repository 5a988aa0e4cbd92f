#!/usr/bin/env bash
# Builds the wheel for a machine with Linux, on any machine with Linux.
#
# Usage: build.sh PYTHON MACHINE FOLDER. PYTHON has tools/wheels/requirements.txt installed,
# MACHINE is x86_64, aarch64 or armv7l, and the wheel goes to FOLDER.
#
# setup.py as always, with another compiler: ziglang, which links against glibc 2.17 of 2012 and
# puts the C++ library into ours.
set -euo pipefail
python=$(realpath --no-symlinks "$1") # A venv's `python`, a link, must stay one.
machine=$2
folder=$(realpath --canonicalize-missing "$3")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case $machine in
  x86_64 | aarch64) target=$machine-linux-gnu.2.17 ;;
  armv7l) target=arm-linux-gnueabihf.2.17 ;; # ARMv7-A with NEON.
  *)
    echo "build.sh: MACHINE must be x86_64, aarch64 or armv7l. Received: $machine" >&2
    exit 2
    ;;
esac
platform=manylinux_2_17_$machine
build=_build/wheels/$machine

export CC="$python -m ziglang cc -target $target"
export CXX="$python -m ziglang c++ -target $target"
# -s: no symbols but the two that an interpreter asks for.
export LDSHARED="$CXX -shared -s" LDCXXSHARED="$CXX -shared -s"
export ZIG_GLOBAL_CACHE_DIR=$PWD/_build/wheels/zig
# A module that was deleted since would still lie there.
rm -rf "$build/lib" "$build/wheel"
"$python" -W ignore setup.py --quiet \
  build --build-base "$build" --build-lib "$build/lib" \
  bdist_wheel --plat-name "$platform" --bdist-dir "$build/wheel" --dist-dir "$folder"
