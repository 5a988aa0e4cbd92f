# These targets run the C++ tests of the delegate under sanitizers, and libFuzzer on it.

TESTING = $(filter %.cc,$(LIBRARY)) $(patsubst %,delegate/testing/%.cc,graph interpreter $(1))
TESTING_FLAGS := -std=c++17 -O1 -g -Wall -Wextra -Werror -ffp-contract=off -pthread -I.
FUZZ_SECONDS ?= 600

.PHONY: sanitize fuzz

sanitize: ## the delegate's C++ tests under address, undefined and thread sanitizers
	$(MAKE) --no-print-directory --jobs 2 --output-sync sanitize-address,undefined sanitize-thread

# With these numbers of random graphs both take about as long.
sanitize-address,undefined: GRAPHS := 500
sanitize-thread: GRAPHS := 150
sanitize-%:
	@mkdir -p _build/sanitize
	$(CXX) $(TESTING_FLAGS) -fsanitize=$* -fno-sanitize-recover=all $(call TESTING,naive driver) \
	    -o _build/sanitize/$*
	_build/sanitize/$* $(GRAPHS)

fuzz: ## libFuzzer on the delegate for FUZZ_SECONDS=600; finds go to _build/fuzz
	@command -v clang++ > /dev/null || \
	    { echo "make: fuzzing takes clang and its libFuzzer:" \
	        "apt install clang libclang-rt-14-dev" >&2; exit 1; }
	@mkdir -p _build/fuzz/corpus
	clang++ $(TESTING_FLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    $(call TESTING,fuzz) -o _build/fuzz/fuzz
	_build/fuzz/fuzz -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -timeout=10 \
	    -print_final_stats=1 -artifact_prefix=_build/fuzz/ _build/fuzz/corpus tests/delegate/corpus
