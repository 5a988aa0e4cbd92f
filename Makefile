# Every target works alone and first in a fresh clone. It takes Python 3.10 to 3.13, make and a
# C++ compiler. `make test PYTHON=python3.11` takes another Python than `python3`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DELEGATE := $(shell find delegate examples -name '*.cc' -o -name '*.h')
LIBRARY := $(filter-out delegate/testing/% examples/%,$(DELEGATE))

# Each core has a worker, of two gigabytes. Tests of one file share what they built.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo check test test-proofs test-zoo lint format lock clean

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.* ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

demo: $(VENV)/built ## train on real digits, export, run bit-packed, compare
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python benchmarks/demo.py

check: $(VENV)/built ## lint and the fast tests, under two minutes on two cores
	@start=$$(date +%s) && $(MAKE) --no-print-directory lint && $(PYTEST) -m "not slow and not proof" && \
	    echo "make check: $$(($$(date +%s) - start)) seconds"

test: lint ## every check and every test but the longest
	$(PYTEST) -m "not proof"

test-proofs: $(VENV)/built ## the longest tests: runs that are killed, two machines, every model exported
	$(PYTEST) -m proof

test-zoo: $(VENV)/built ## every model at full width and three sizes, up to the runtime; 20 minutes
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/pytest tests/acceptance/zoo

lint: $(VENV)/built ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run -Werror $(DELEGATE)
	$(BIN)/mypy

format: $(VENV)/built ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(DELEGATE)

clean: ## remove .venv and all that was built or cached; runs/ stays
	rm -rf $(VENV) _build dist *.egg-info bireal_keras/runtime/*.so bireal_keras/runtime/*.dylib
	rm -rf .cache .pytest_cache .ruff_cache .mypy_cache

# What takes a compiler's sanitizers, an emulator, other people's packages or many minutes.
include $(sort $(wildcard tools/*/*.mk))

# Pins that still fit stay; delete requirements.lock first to take the newest of everything. Larq is
# for every Python here: pyproject.toml tells uv what it really needs.
lock: ## write requirements.lock anew from setup.py
	$(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install --quiet uv
	echo larq | _build/lock/bin/uv pip compile --quiet --universal --python-version 3.10 \
	    --extra dev --custom-compile-command "make lock" --output-file requirements.lock setup.py -

# pip leaves alone what is installed already; the delegate is compiled again if need be.
$(VENV)/built: $(VENV)/installed setup.py pyproject.toml $(LIBRARY) $(wildcard bireal_keras/commands/*.py)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "make: Python 3.10, 3.11, 3.12 or 3.13 is needed, for TensorFlow, and $(PYTHON) is" \
	        "$$($(PYTHON) --version 2>&1). Another one: make PYTHON=python3.13. On a newer Python" \
	        "models run, but are not trained: pip install . in a venv, then bireal-classify." >&2; \
	    exit 1; }
	@command -v $(CXX) > /dev/null || \
	    { echo "make: a C++ compiler is needed, and there is no $(CXX): apt install g++" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV), once; TensorFlow is large."
	$(BIN)/pip install --quiet --no-deps --requirement requirements.lock
	@touch $@
