# These targets build wheels for Linux and test them on emulated machines.

WHEELS := _build/wheels
WHEEL_MACHINES := x86_64 aarch64 armv7l

.PHONY: wheels test-wheels

# Emulated Pythons install and run the wheels for Arm, which takes ten minutes and more.
test-wheels: $(addprefix $(WHEELS)/,arm64/made armhf/made recorded/made) wheels ## the wheels in fresh environments, and on emulated Raspberry Pis
	$(BIN)/pytest tests/acceptance/wheels

wheels: $(WHEELS)/tools/installed $(WHEEL_MACHINES:%=wheel-%) ## dist/*.whl for Linux on PCs and on 64-bit and 32-bit Arm
	$(WHEELS)/tools/bin/python tools/wheels/check.py dist/*.whl

wheel-%: $(WHEELS)/tools/installed
	rm -f dist/*_$*.whl
	tools/wheels/build.sh $(WHEELS)/tools/bin/python $* dist

$(WHEELS)/tools/installed: tools/wheels/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

$(WHEELS)/recorded/made: $(AARCH64)/birealnet18/made tools/wheels/record.py
	$(BIN)/python tools/wheels/record.py $(<D) $(@D)
	@touch $@

# They have what a Raspberry Pi OS has. On 32-bit Arm NumPy and Pillow come from the distribution.
$(WHEELS)/arm64/made: tools/emulation/debian.sh
	tools/emulation/debian.sh $(@D) arm64 python3.11 python3-pip-whl libstdc++6 libgomp1
	@touch $@

$(WHEELS)/armhf/made: tools/emulation/debian.sh
	tools/emulation/debian.sh $(@D) armhf python3.11 python3-pip-whl libstdc++6 \
	    python3-numpy python3-pil
	# This is what update-alternatives would do, which is not run.
	cd $(@D)/usr/lib/arm-linux-gnueabihf && ln -s blas/libblas.so.3 lapack/liblapack.so.3 .
	@touch $@
