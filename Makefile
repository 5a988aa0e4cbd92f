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
DOCS := _build/docs_venv

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-zoo sanitize fuzz lint format lock cards docs clean

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.* ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(VENV)/built ## train on real digits, export, run bit-packed, compare
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python benchmarks/demo.py

test: lint $(VENV)/built ## every check and every test
	$(BIN)/pytest

test-zoo: $(VENV)/built ## every model at full width and three sizes, up to the runtime; an hour
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/pytest tests/acceptance/zoo

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
$(VENV)/built: $(VENV)/installed setup.py pyproject.toml $(LIBRARY) $(wildcard bireal_keras/commands/*.py)
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

$(DOCS)/installed: tools/docs/requirements.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --requirement $<
	@touch $@

# What takes an emulator, a cross compiler, other people's packages or an hour.
include tools/aarch64/aarch64.mk tools/c_api/c_api.mk tools/peers/peers.mk tools/wheels/wheels.mk
