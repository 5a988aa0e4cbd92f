#!/usr/bin/env bash
# Builds the wheel for one kind of machine, on any machine with Linux.
#
# Usage: build.sh PYTHON PLATFORM FOLDER. PYTHON has tools/wheels/requirements.txt installed,
# PLATFORM is the last word of the wheel's name, and the wheel goes to FOLDER.
#
# setup.py as always, with another compiler: ziglang, which links against glibc 2.17 of 2012, macOS
# 12 or Windows' own C library, and puts the C++ library into ours.
set -euo pipefail
python=$(realpath --no-symlinks "$1") # A venv's `python`, a link, must stay one.
platform=$2
folder=$(realpath --canonicalize-missing "$3")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

case $platform in
  manylinux_2_17_x86_64) system=linux-x86_64 target=x86_64-linux-gnu.2.17 ;;
  manylinux_2_17_aarch64) system=linux-aarch64 target=aarch64-linux-gnu.2.17 ;;
  # ARMv7-A with NEON.
  manylinux_2_17_armv7l) system=linux-armv7l target=arm-linux-gnueabihf.2.17 ;;
  macosx_12_0_arm64) system=macosx-12.0-arm64 target=aarch64-macos.12.0 ;;
  win_amd64) system=win-amd64 target=x86_64-windows-gnu ;;
  *)
    echo "build.sh: PLATFORM must be one that tools/wheels/wheels.mk names. Received: $platform" >&2
    exit 2
    ;;
esac
build=_build/wheels/$platform

# What distutils takes this machine for.
export _PYTHON_HOST_PLATFORM=$system
export CC="$python -m ziglang cc -target $target"
export CXX="$python -m ziglang c++ -target $target" CPPFLAGS=-Werror
# -s: no symbols but the two that an interpreter asks for.
export LDSHARED="$CXX -shared -s"
case $system in
  # Of the C++ library what these two need.
  linux-*) LDSHARED+=" -Wl,--gc-sections" ;;
  macosx-*) LDSHARED+=" -Wl,-dead_strip" ;;
  # Nobody links against the library: what for is not to lie beside it, and be packed.
  win-amd64) LDSHARED+=" -Wl,--out-implib,$build/delegate.lib" ;;
esac
export LDCXXSHARED=$LDSHARED
export ZIG_GLOBAL_CACHE_DIR=$PWD/_build/wheels/zig
# A module that was deleted since would still lie there.
rm -rf "$build/lib" "$build/wheel"
"$python" -W ignore setup.py --quiet \
  build --build-base "$build" --build-lib "$build/lib" \
  bdist_wheel --plat-name "$platform" --bdist-dir "$build/wheel" --dist-dir "$folder"
