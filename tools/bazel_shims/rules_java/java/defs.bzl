"""Bazel's own Java rules, which Bazel 4 loads for itself even where no Java is built."""

java_binary = native.java_binary
java_import = native.java_import
java_library = native.java_library
java_runtime = native.java_runtime
java_test = native.java_test
java_toolchain = native.java_toolchain
