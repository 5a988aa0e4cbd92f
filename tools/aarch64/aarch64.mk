# This target tests the delegate on emulated Raspberry Pis.

AARCH64 := $(CURDIR)/_build/aarch64

.PHONY: test-aarch64

test-aarch64: $(addprefix $(AARCH64)/,root/made packages/made lib/made birealnet18/made) ## the delegate on emulated Raspberry Pis
	$(MAKE) --no-print-directory --jobs 2 --output-sync on-cortex-a72 on-cortex-a76
	$(BIN)/python benchmarks/arm_inner_loop.py

# A Raspberry Pi 4 has a Cortex-A72, a Raspberry Pi 5 a Cortex-A76. The other tests of the
# delegate start processes, which the emulator cannot.
on-cortex-%:
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$(AARCH64)/lib:$(AARCH64)/packages \
	qemu-aarch64-static -cpu cortex-$* -L $(AARCH64)/root $(AARCH64)/root/usr/bin/python3.11 \
	    -P -m pytest -p no:cacheprovider tests/acceptance/aarch64 \
	    $(patsubst %,tests/delegate/test_%.py,bconv2d channel_ops compact_layers control_flow fusion \
	        kernels malformed shortcut_and_head small_ops stem) \
	    --deselect tests/delegate/test_stem.py::test_is_right_in_sizes_of_images

$(AARCH64)/root/made: tools/aarch64/setup.sh tools/emulation/debian.sh
	tools/aarch64/setup.sh $(@D)
	@touch $@

$(AARCH64)/packages/made: requirements.lock $(VENV)/installed
	rm -rf $(@D)
	$(BIN)/pip install --quiet --target $(@D) --constraint requirements.lock \
	    --python-version 3.11 --only-binary :all: --platform manylinux_2_17_aarch64 \
	    --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
	    ai-edge-litert flatbuffers numpy pytest
	@touch $@

# setup.py as always, with another compiler.
$(AARCH64)/lib/made: $(AARCH64)/root/made $(VENV)/installed setup.py $(LIBRARY) \
    $(wildcard bireal_keras/runtime/*.py)
	CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ \
	LDSHARED="aarch64-linux-gnu-g++ -shared" LDCXXSHARED="aarch64-linux-gnu-g++ -shared" \
	    $(BIN)/python setup.py --quiet build --build-base $(AARCH64)/build --build-lib $(@D)
	@touch $@

$(AARCH64)/birealnet18/made: tools/aarch64/record_birealnet18.py tests/helpers/submodel.py $(VENV)/built
	PYTHONPATH=tests/helpers TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python $< $(@D)
	@touch $@
