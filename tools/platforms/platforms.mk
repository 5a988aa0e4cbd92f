# These targets run the project's own commands in fresh Debians, as on a new machine.

PLATFORMS := $(CURDIR)/_build/platforms

.PHONY: test-platforms $(addprefix on-debian-,bookworm trixie sid)

# Debian 12 has Python 3.11, Debian 13 has 3.13; sid has 3.14, which TensorFlow has no wheel for.
test-platforms: on-debian-bookworm on-debian-trixie on-debian-sid ## make demo and make test in fresh Debians; as root, over an hour

on-debian-bookworm on-debian-trixie: on-debian-%:
	tools/platforms/in_debian.sh $(PLATFORMS)/$* $* "make demo && make test"

# On a Python without TensorFlow `make demo` says so; what a device has is installed and tested.
on-debian-sid:
	tools/platforms/in_debian.sh $(PLATFORMS)/sid sid "! make demo && python3 -m venv .venv && \
	    .venv/bin/pip install --quiet --editable . pytest && \
	    .venv/bin/pytest tests/runtime tests/tflite tests/delegate"
