#!/usr/bin/env bash
# Puts TensorFlow Lite's C library and its headers, for x86_64 Linux, into FOLDER.
#
# Usage: setup.sh FOLDER. They come with an npm package, the only place that has them compiled.
set -euo pipefail
folder=$1
package=tfjs-tflite-node-0.0.2
sha512=65e77d6e23b3f65916b1e92f3f07449b15e7b235c99d93bc88e574b36636d10535e5cc223de7731440588866caeec998a6426940d358f52ba4a0a9948bd6e4f7

fail() {
  echo "make: cannot get TensorFlow Lite's C library: $1" >&2
  exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is not x86_64 Linux"
command -v npm > /dev/null || fail "it takes npm: apt install npm"
mkdir -p "$folder"
(cd "$folder" && npm pack --silent "${package%-*}@${package##*-}" > /dev/null) ||
  fail "npm has no $package"
echo "$sha512  $folder/$package.tgz" | sha512sum --check --status ||
  fail "$package.tgz is not the file that it was"
tar --extract --file "$folder/$package.tgz" --directory "$folder" --strip-components 2 \
  package/cc_deps/include
tar --extract --file "$folder/$package.tgz" --directory "$folder" --strip-components 3 \
  package/cc_deps/linux_amd64
