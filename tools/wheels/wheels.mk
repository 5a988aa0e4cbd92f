# These targets build the wheels and test those for Linux, on emulated machines.

WHEELS := _build/wheels
WHEEL_PLATFORMS := $(addprefix manylinux_2_17_,x86_64 aarch64 armv7l) macosx_12_0_arm64 win_amd64
EMULATED := bookworm-arm64 trixie-arm64 sid-arm64 bookworm-armhf
PYTHON_OF_bookworm := python3.11
PYTHON_OF_trixie := python3.13
PYTHON_OF_sid := python3.14

.PHONY: wheels test-wheels

# Emulated Pythons install and run the wheels for Arm, which takes ten minutes and more.
test-wheels: $(EMULATED:%=$(WHEELS)/%/made) $(WHEELS)/recorded/made wheels ## the wheels in fresh environments, and on emulated Raspberry Pis
	$(BIN)/pytest tests/acceptance/wheels

wheels: $(WHEELS)/tools/installed $(WHEEL_PLATFORMS:%=wheel-%) ## dist/*.whl for Linux on PCs and Arm, Windows and macOS
	$(WHEELS)/tools/bin/python tools/wheels/check.py dist/*.whl

wheel-%: $(WHEELS)/tools/installed
	rm -f dist/*-$*.whl
	tools/wheels/build.sh $(WHEELS)/tools/bin/python $* dist

$(WHEELS)/tools/installed: tools/wheels/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

$(WHEELS)/recorded/made: $(AARCH64)/birealnet18/made tools/wheels/record.py
	$(BIN)/python tools/wheels/record.py $(<D) $(@D)
	@touch $@

# They have what a Raspberry Pi OS has: of Debian 12, of Debian 13, and, with Python 3.14, of what will
# be Debian 14. On 32-bit Arm NumPy and Pillow come from the distribution.
$(WHEELS)/%-arm64/made: tools/emulation/debian.sh
	tools/emulation/debian.sh $(@D) $* arm64 $(PYTHON_OF_$*) python3-pip-whl libstdc++6 libgomp1
	@touch $@

$(WHEELS)/bookworm-armhf/made: tools/emulation/debian.sh
	tools/emulation/debian.sh $(@D) bookworm armhf python3.11 python3-pip-whl libstdc++6 \
	    python3-numpy python3-pil
	# This is what update-alternatives would do, which is not run.
	cd $(@D)/usr/lib/arm-linux-gnueabihf && ln -s blas/libblas.so.3 lapack/liblapack.so.3 .
	@touch $@
