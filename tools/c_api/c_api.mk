C_API := _build/c_api

.PHONY: test-c-api

# TensorFlow Lite's C library and its loader of external delegates, which benchmark_model has,
# too: the npm package brings both.
test-c-api: $(C_API)/run_model $(VENV)/built ## the delegate in a C++ program, without Python
	$(BIN)/pytest tests/acceptance/c_api

$(C_API)/run_model: examples/run_model.cc tools/c_api/setup.sh
	tools/c_api/setup.sh $(@D)
	$(CXX) -std=c++17 -O2 -Wall -Wextra -Werror -isystem $(@D)/include $< -o $@ \
	    -L$(@D) -Wl,-rpath,'$$ORIGIN' -ltensorflowlite_c -lexternal_delegate_obj
