// Lets every allocation fail in turn, while a delegate is made, a graph handed over to it, prepared
// and run. Whatever fails has to be an error that the host hears of, or to be done without; nothing
// may leak, hang or end the process.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <random>
#include <stdexcept>
#include <string>

#include "delegate/testing/delegate.h"
#include "delegate/testing/graph.h"
#include "delegate/testing/interpreter.h"

namespace {

// How many allocations of this thread succeed before the one that fails; all do if it is negative.
thread_local int64_t allocations_left = -1;

void* Allocate(size_t size, size_t alignment) {
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  const size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace bireal::testing {
namespace {

constexpr unsigned kGraphs = 20;

// Makes a delegate and runs the graph on it. The first `succeeding` allocations do, and the next
// one does not. Returns whether there was a next one.
bool Run(const Graph& graph, int64_t succeeding) {
  Interpreter interpreter(graph);
  // The interpreter of these tests has no operators of its own.
  char keys[][12] = {"num_threads", "kernel", "float_ops"};
  char values[][12] = {"4", "portable", "delegate"};
  char* key_pointers[] = {keys[0], keys[1], keys[2]};
  char* value_pointers[] = {values[0], values[1], values[2]};
  allocations_left = succeeding;
  const Delegate delegate(
      tflite_plugin_create_delegate(key_pointers, value_pointers, 3, [](const char*) {}));
  bool runs = false;
  try {
    runs = delegate != nullptr && interpreter.ModifyGraphWithDelegate(delegate.get()) &&
           interpreter.AllocateTensors() && interpreter.Invoke();
  } catch (const std::bad_alloc&) {
    // The interpreter itself ran out of memory.
  }
  const bool failed = allocations_left < 0;
  allocations_left = -1;
  if (!failed && !runs) throw std::runtime_error("a graph does not run: " + interpreter.error());
  return failed;
}

int RunAll() {
  int64_t failures = 0;
  for (unsigned seed = 0; seed < kGraphs; ++seed) {
    std::mt19937 random(seed);
    const Graph graph =
        MakeGraph([&](int n) { return static_cast<int>(random() % n); }, 8, 1 << 10);
    int64_t succeeding = 0;
    while (Run(graph, succeeding)) ++succeeding;
    failures += succeeding;
  }
  std::printf("%u graphs, %lld allocations failed\n", kGraphs, static_cast<long long>(failures));
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace bireal::testing

int main() {
  try {
    return bireal::testing::RunAll();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return EXIT_FAILURE;
  }
}
