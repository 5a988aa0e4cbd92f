# These targets run the C++ tests of the delegate, and hostile models, under sanitizers and on older
# interpreters, and libFuzzer on the delegate.

# TESTING are the sources of a test program; SANITIZED are its objects under a sanitizer.
TESTING = $(filter %.cc,$(LIBRARY)) $(patsubst %,delegate/testing/%.cc,graph interpreter $(1))
TESTING_FLAGS := -std=c++17 -O1 -g -Wall -Wextra -Werror -ffp-contract=off -pthread -I.
SANITIZE := _build/sanitize
SANITIZED = $(patsubst %.cc,$(SANITIZE)/$(1)/%.o,$(call TESTING,$(2)))
ADDRESS := -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all
THREAD := -fsanitize=thread
INTERPRETERS := _build/interpreters
OLD_INTERPRETERS := 2.0.2 2.0.3 2.1.0
FUZZ_SECONDS ?= 600

.PHONY: sanitize test-interpreters fuzz

# Python is not built for the sanitizers: it gets their library, and the C++ library that they watch
# exceptions of, before its own. What it leaks itself is not ours to find.
SANITIZED_PYTHON := LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) \
    $$($(CXX) -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
    BIREAL_TEST_DELEGATE=$(SANITIZE)/libbireal_delegate.so PYTHONPATH=tests/helpers $(BIN)/python
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

# The first ones that setup.py admits: what newer ones forgive, or check, these may not.
test-interpreters: $(OLD_INTERPRETERS:%=$(INTERPRETERS)/%/made) $(VENV)/built ## mutated models on older versions of LiteRT
	for version in $(OLD_INTERPRETERS); do \
	    PYTHONPATH=$(INTERPRETERS)/$$version:tests/helpers $(BIN)/python \
	        tests/delegate/test_mutated_models.py ai_edge_litert.interpreter \
	        bireal_keras/runtime/libbireal_delegate.so 0 600 > $(INTERPRETERS)/$$version/seeds; \
	    status=$$?; echo "$$version: $$(tail -1 $(INTERPRETERS)/$$version/seeds)"; \
	    test $$status = 0 || exit $$status; \
	done

fuzz: ## libFuzzer on the delegate for FUZZ_SECONDS=600; finds go to _build/fuzz
	@command -v clang++ > /dev/null || \
	    { echo "make: fuzzing takes clang and its libFuzzer:" \
	        "apt install clang libclang-rt-14-dev" >&2; exit 1; }
	@mkdir -p _build/fuzz/corpus
	clang++ $(TESTING_FLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    $(call TESTING,fuzz) -o _build/fuzz/fuzz
	_build/fuzz/fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -timeout=10 \
	    -print_final_stats=1 -artifact_prefix=_build/fuzz/ _build/fuzz/corpus tests/delegate/corpus

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
