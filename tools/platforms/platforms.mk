# These targets run the project's own commands in fresh Debians, as on a new machine.

PLATFORMS := $(CURDIR)/_build/platforms

.PHONY: test-platforms test-arm-export $(addprefix on-debian-,bookworm trixie sid)

# Debian 12 has Python 3.11 and GCC 12, Debian 13 has 3.13 and 14; sid has GCC 16, and Python 3.14,
# which TensorFlow has no wheel for.
test-platforms: on-debian-bookworm on-debian-trixie on-debian-sid ## make demo and make test in fresh Debians; as root, over an hour

on-debian-bookworm on-debian-trixie: on-debian-%:
	tools/platforms/in_debian.sh $(PLATFORMS)/$* $* "export CPPFLAGS=-Werror && make demo && make test"

# On a Python without TensorFlow `make demo` says so; what a device has is installed and tested.
on-debian-sid:
	tools/platforms/in_debian.sh $(PLATFORMS)/sid sid "! make demo && python3 -m venv .venv && \
	    CPPFLAGS=-Werror .venv/bin/pip install --quiet --editable . pytest && \
	    .venv/bin/pytest tests/runtime tests/tflite tests/delegate"

# TensorFlow has a wheel for 64-bit Arm: the machine itself converts a Keras model. Most of the time
# goes into the installation, which the emulator slows down.
test-arm-export: $(PLATFORMS)/trixie-arm64/made wheel-manylinux_2_17_aarch64 ## a Keras model converted on an emulated Raspberry Pi; as root
	rm -rf $(<D)/root/*
	cp dist/*_aarch64.whl tools/platforms/convert_keras.py $(<D)/root
	tools/platforms/in_arm_debian.sh $(<D) "python3.13 -m venv venv && \
	    venv/bin/pip install --quiet \"\$$(ls *.whl)[tensorflow]\" && \
	    venv/bin/pip install --quiet --no-deps larq && \
	    TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python convert_keras.py model.tflite"

$(PLATFORMS)/trixie-arm64/made: tools/emulation/debian.sh
	tools/emulation/debian.sh $(@D) trixie arm64 bash ca-certificates coreutils libgomp1 libstdc++6 \
	    python3.13-venv
	mkdir -p $(@D)/root
	@touch $@
