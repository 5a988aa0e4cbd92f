# Every target works alone and first in a fresh clone. It takes Python 3.10 to 3.12, make and a
# C++ compiler. Another Python than `python3`: make test PYTHON=python3.11

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DELEGATE := $(shell find delegate examples -name '*.cc' -o -name '*.h')
LIBRARY := $(filter-out delegate/testing/% examples/%,$(DELEGATE))

# The C++ tests of the delegate: sources of a program, and the objects under a sanitizer.
TESTING = $(filter %.cc,$(LIBRARY)) $(patsubst %,delegate/testing/%.cc,graph interpreter $(1))
TESTING_FLAGS := -std=c++17 -O1 -g -Wall -Wextra -Werror -ffp-contract=off -pthread -I.
SANITIZE := _build/sanitize
SANITIZED = $(patsubst %.cc,$(SANITIZE)/$(1)/%.o,$(call TESTING,$(2)))
ADDRESS := -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all
THREAD := -fsanitize=thread
FUZZ_SECONDS ?= 600
AARCH64 := $(CURDIR)/_build/aarch64
C_API := _build/c_api
INTERPRETERS := _build/interpreters
OLD_INTERPRETERS := 2.0.2 2.0.3 2.1.0
PEERS := _build/peers
DOCS := _build/docs_venv
WHEELS := _build/wheels
WHEEL_MACHINES := x86_64 aarch64 armv7l

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-zoo test-aarch64 test-c-api test-interpreters test-peers test-wheels wheels \
    sanitize fuzz lint format lock cards docs clean

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.* ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

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
	    $(patsubst %,tests/delegate/test_%.py,bconv2d control_flow fusion kernels malformed small_ops)

# TensorFlow Lite's C library and its loader of external delegates, which benchmark_model has,
# too: the npm package brings both.
test-c-api: $(C_API)/run_model $(VENV)/built ## the delegate in a C++ program, without Python
	$(BIN)/pytest tools/c_api

# The first time, larq-zoo's models are exported in an environment of their own: ten minutes.
test-peers: $(PEERS)/models/made $(PEERS)/larq_zoo/made ## larq-zoo's models on the delegate, its weights in ours
	$(BIN)/pytest tools/peers

# The first ones that setup.py admits: what newer ones forgive, or check, these may not.
test-interpreters: $(OLD_INTERPRETERS:%=$(INTERPRETERS)/%/made) $(VENV)/built ## mutated models on older versions of LiteRT
	for version in $(OLD_INTERPRETERS); do \
	    PYTHONPATH=$(INTERPRETERS)/$$version:tests $(BIN)/python \
	        tests/delegate/test_mutated_models.py ai_edge_litert.interpreter \
	        bireal_keras/runtime/libbireal_delegate.so 0 600 > $(INTERPRETERS)/$$version/seeds; \
	    status=$$?; echo "$$version: $$(tail -1 $(INTERPRETERS)/$$version/seeds)"; \
	    test $$status = 0 || exit $$status; \
	done

# Emulated, Pythons install and run the wheels for Arm: ten minutes and more.
test-wheels: $(addprefix $(WHEELS)/,arm64/made armhf/made recorded/made) wheels ## the wheels in fresh environments, and on emulated Raspberry Pis
	$(BIN)/pytest tools/wheels

wheels: $(WHEELS)/tools/installed $(WHEEL_MACHINES:%=wheel-%) ## dist/*.whl for Linux on PCs and on 64-bit and 32-bit Arm
	$(WHEELS)/tools/bin/python tools/wheels/check.py dist/*.whl

wheel-%: $(WHEELS)/tools/installed
	rm -f dist/*_$*.whl
	tools/wheels/build.sh $(WHEELS)/tools/bin/python $* dist

# Python is not built for the sanitizers: it gets their library, and the C++ library that they watch
# exceptions of, before its own. What it leaks itself is not ours to find.
SANITIZED_PYTHON := LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) \
    $$($(CXX) -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
    BIREAL_TEST_DELEGATE=$(SANITIZE)/libbireal_delegate.so PYTHONPATH=tests $(BIN)/python
SANITIZED_PROGRAMS := $(patsubst %,$(SANITIZE)/%,address/driver address/out_of_memory \
    address/replay thread/driver libbireal_delegate.so)
HOSTILE := $(patsubst %,tests/delegate/test_%.py,control_flow fusion malformed small_ops)

sanitize: $(SANITIZED_PROGRAMS) $(VENV)/built ## the delegate's C++ tests, and hostile models, under sanitizers
	$(SANITIZE)/address/driver 500
	$(SANITIZE)/address/out_of_memory
	$(SANITIZE)/address/replay tests/delegate/corpus/* > $(SANITIZE)/replayed
	$(SANITIZE)/thread/driver 150
	$(SANITIZED_PYTHON) -m pytest -q -p no:cacheprovider -k "not lce" $(HOSTILE)
	$(SANITIZED_PYTHON) -m pytest -q -p no:cacheprovider -k "steps or int8" \
	    tests/delegate/test_kernels.py tests/delegate/test_bconv2d.py
	$(SANITIZED_PYTHON) tests/delegate/test_mutated_models.py ai_edge_litert.interpreter \
	    $(SANITIZE)/libbireal_delegate.so 0 2000 > $(SANITIZE)/mutated || \
	    { tail -1 $(SANITIZE)/mutated; exit 1; }

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

cards: $(VENV)/built ## write docs/models from the models themselves
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python tools/model_cards.py

# Zensical reads mkdocs.yml; --strict makes its warnings errors, such as a link to nowhere.
docs: $(DOCS)/installed ## the documentation site, in _build/site
	$(DOCS)/bin/python tools/docs/docs_site.py _build/docs
	$(DOCS)/bin/zensical build --clean --strict
	@echo "_build/site/index.html"

clean: ## remove .venv and all that was built or cached; runs/ stays
	rm -rf $(VENV) _build dist *.egg-info bireal_keras/runtime/*.so
	rm -rf .cache .pytest_cache .ruff_cache .mypy_cache

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

$(SANITIZE)/address/%.o: %.cc $(filter %.h,$(DELEGATE))
	@mkdir -p $(@D)
	$(CXX) $(TESTING_FLAGS) -fPIC $(ADDRESS) -c $< -o $@

$(SANITIZE)/thread/%.o: %.cc $(filter %.h,$(DELEGATE))
	@mkdir -p $(@D)
	$(CXX) $(TESTING_FLAGS) $(THREAD) -c $< -o $@

$(SANITIZE)/address/driver: $(call SANITIZED,address,naive driver)
$(SANITIZE)/thread/driver: $(call SANITIZED,thread,naive driver)
$(SANITIZE)/address/out_of_memory: $(call SANITIZED,address,out_of_memory)
$(SANITIZE)/address/replay: $(call SANITIZED,address,fuzz fuzz_main)
$(addprefix $(SANITIZE)/address/,driver out_of_memory replay):
	$(CXX) $(TESTING_FLAGS) $(ADDRESS) $^ -o $@

$(SANITIZE)/thread/driver:
	$(CXX) $(TESTING_FLAGS) $(THREAD) $^ -o $@

$(SANITIZE)/libbireal_delegate.so: $(filter-out %graph.o %interpreter.o,$(call SANITIZED,address))
	$(CXX) $(TESTING_FLAGS) -shared $(ADDRESS) $^ -o $@

$(INTERPRETERS)/%/made: $(VENV)/installed
	rm -rf $(@D)
	$(BIN)/pip install --quiet --no-deps --target $(@D) ai-edge-litert==$*
	@touch $@

$(C_API)/run_model: examples/run_model.cc tools/c_api/setup.sh
	tools/c_api/setup.sh $(@D)
	$(CXX) -std=c++17 -O2 -Wall -Wextra -Werror -isystem $(@D)/include $< -o $@ \
	    -L$(@D) -Wl,-rpath,'$$ORIGIN' -ltensorflowlite_c -lexternal_delegate_obj

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

$(AARCH64)/birealnet18/made: tools/aarch64/record_birealnet18.py tests/submodel.py $(VENV)/built
	PYTHONPATH=tests TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python $< $(@D)
	@touch $@

$(DOCS)/installed: tools/docs/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --requirement $<
	@touch $@

$(WHEELS)/tools/installed: tools/wheels/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

$(WHEELS)/recorded/made: $(AARCH64)/birealnet18/made tools/wheels/record.py
	$(BIN)/python tools/wheels/record.py $(<D) $(@D)
	@touch $@

# What a Raspberry Pi OS has. On 32-bit Arm NumPy and Pillow come from the distribution.
$(WHEELS)/arm64/made: tools/emulation/debian.sh
	tools/emulation/debian.sh $(@D) arm64 python3.11 python3-pip-whl libstdc++6 libgomp1
	@touch $@

$(WHEELS)/armhf/made: tools/emulation/debian.sh
	tools/emulation/debian.sh $(@D) armhf python3.11 python3-pip-whl libstdc++6 \
	    python3-numpy python3-pil
	# As update-alternatives would, which is not run.
	cd $(@D)/usr/lib/arm-linux-gnueabihf && ln -s blas/libblas.so.3 lapack/liblapack.so.3 .
	@touch $@

$(PEERS)/venv/installed: tools/peers/requirements.txt | $(VENV)/installed
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	@echo "Installing larq-zoo and its TensorFlow into $(@D), once."
	$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

# What it declares to need, its models do without: so it also runs beside our TensorFlow.
$(PEERS)/larq_zoo/made: $(VENV)/built
	rm -rf $(@D)
	$(BIN)/pip install --quiet --no-deps --target $(@D) \
	    larq-zoo==2.4.0 zookeeper==1.4.0 typeguard==4.6.1 click==8.5.1
	@touch $@

# Models that are there and not out of date are those of a run that was interrupted: they stay.
$(PEERS)/models/made: tools/peers/export.py $(PEERS)/venv/installed
	@test ! -e $@ || rm -r $(@D)
	TF_CPP_MIN_LOG_LEVEL=3 $(PEERS)/venv/bin/python $< $(@D)
	@touch $@
