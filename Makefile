# Every target works alone and first in a fresh clone. It takes Python 3.10 to 3.12, make and a
# C++ compiler. Another Python than `python3`: make test PYTHON=python3.11

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DELEGATE := $(shell find delegate examples -name '*.cc' -o -name '*.h')
LIBRARY := $(filter-out delegate/testing/% examples/%,$(DELEGATE))

# The C++ tests of the delegate.
TESTING = $(filter %.cc,$(LIBRARY)) $(patsubst %,delegate/testing/%.cc,graph interpreter $(1))
TESTING_FLAGS := -std=c++17 -O1 -g -Wall -Wextra -Werror -ffp-contract=off -pthread -I.
FUZZ_SECONDS ?= 600
AARCH64 := $(CURDIR)/_build/aarch64
C_API := _build/c_api

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-zoo test-aarch64 test-c-api sanitize fuzz lint format lock clean

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.* ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(VENV)/built ## train on real digits, export, run bit-packed, compare
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python benchmarks/demo.py

test: lint $(VENV)/built ## every check and every test
	$(BIN)/pytest

test-zoo: $(VENV)/built ## every model at full width and three sizes, up to the runtime; an hour
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/pytest tools/zoo

test-aarch64: $(addprefix $(AARCH64)/,root/made packages/made lib/made birealnet18/made) ## the delegate on emulated Raspberry Pis
	$(MAKE) --no-print-directory --jobs 2 --output-sync on-cortex-a72 on-cortex-a76
	$(BIN)/python benchmarks/arm_inner_loop.py

# A Raspberry Pi 4 has a Cortex-A72, a Raspberry Pi 5 a Cortex-A76. The other tests of the
# delegate start processes, which the emulator cannot.
on-cortex-%:
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$(AARCH64)/lib:$(AARCH64)/packages \
	qemu-aarch64-static -cpu cortex-$* -L $(AARCH64)/root $(AARCH64)/root/usr/bin/python3.11 \
	    -P -m pytest -p no:cacheprovider tools/aarch64 \
	    $(patsubst %,tests/delegate/test_%.py,bconv2d fusion kernels malformed small_ops)

# TensorFlow Lite's C library and its loader of external delegates, which benchmark_model has,
# too: the npm package brings both.
test-c-api: $(C_API)/run_model $(VENV)/built ## the delegate in a C++ program, without Python
	$(BIN)/pytest tools/c_api

sanitize: ## the delegate's C++ tests under address, undefined and thread sanitizers
	@mkdir -p _build/sanitize
	$(CXX) $(TESTING_FLAGS) -fsanitize=address,undefined -fno-sanitize-recover=all \
	    $(call TESTING,naive driver) -o _build/sanitize/address_undefined
	_build/sanitize/address_undefined 500
	$(CXX) $(TESTING_FLAGS) -fsanitize=thread $(call TESTING,naive driver) -o _build/sanitize/thread
	_build/sanitize/thread 150

fuzz: ## libFuzzer on the delegate for FUZZ_SECONDS=600; finds go to _build/fuzz
	@command -v clang++ > /dev/null || \
	    { echo "make: fuzzing takes clang and its libFuzzer:" \
	        "apt install clang libclang-rt-14-dev" >&2; exit 1; }
	@mkdir -p _build/fuzz/corpus
	clang++ $(TESTING_FLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    $(call TESTING,fuzz) -o _build/fuzz/fuzz
	_build/fuzz/fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -timeout=10 \
	    -print_final_stats=1 -artifact_prefix=_build/fuzz/ _build/fuzz/corpus tests/delegate/corpus

lint: $(VENV)/built ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(DELEGATE)
	$(BIN)/mypy

format: $(VENV)/built ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(DELEGATE)

# Pins that still fit stay; delete requirements.lock first to take the newest of everything.
lock: ## write requirements.lock anew from setup.py
	$(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install --quiet uv
	_build/lock/bin/uv pip compile --quiet --universal --python-version 3.10 --extra dev \
	    --custom-compile-command "make lock" --output-file requirements.lock setup.py

clean: ## remove .venv and all that was built or cached; runs/ stays
	rm -rf $(VENV) _build dist *.egg-info bireal_keras/runtime/*.so
	rm -rf .pytest_cache .ruff_cache .mypy_cache

# pip leaves alone what is installed already; the delegate is compiled again if need be.
$(VENV)/built: $(VENV)/installed setup.py pyproject.toml $(LIBRARY)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	    { echo "make: Python 3.10, 3.11 or 3.12 is needed, and $(PYTHON) is" \
	        "$$($(PYTHON) --version 2>&1). Another one: make PYTHON=python3.11" >&2; exit 1; }
	@command -v $(CXX) > /dev/null || \
	    { echo "make: a C++ compiler is needed, and there is no $(CXX): apt install g++" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV), once; TensorFlow is large."
	$(BIN)/pip install --quiet --requirement requirements.lock
	@touch $@

$(C_API)/run_model: examples/run_model.cc tools/c_api/setup.sh
	tools/c_api/setup.sh $(@D)
	$(CXX) -std=c++17 -O2 -Wall -Wextra -Werror -isystem $(@D)/include $< -o $@ \
	    -L$(@D) -Wl,-rpath,'$$ORIGIN' -ltensorflowlite_c -lexternal_delegate_obj

$(AARCH64)/root/made: tools/aarch64/setup.sh
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

$(AARCH64)/birealnet18/made: tools/aarch64/record_birealnet18.py $(VENV)/built
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python $< $(@D)
	@touch $@
