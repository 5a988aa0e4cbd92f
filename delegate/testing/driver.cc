// Runs random graphs on every kernel this CPU has, with 1, 2 and 4 threads, fused and unfused,
// resized and back, and holds each against the portable kernel and that against the naive one,
// byte for byte. Several graphs are under way at once, as interpreters in several threads are;
// and some of those interpreters share a delegate.
//
//   driver [graphs] [first seed]
//
// Prints the seed of a graph only when it failed: `driver 1 SEED` repeats it.
#include <atomic>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "delegate/kernels/kernels.h"
#include "delegate/testing/delegate.h"
#include "delegate/testing/graph.h"
#include "delegate/testing/interpreter.h"
#include "delegate/testing/naive.h"

namespace bireal::testing {
namespace {

constexpr int kMaxNodes = 12;
constexpr int64_t kMaxWork = 1 << 20;
constexpr int kUnlimited = INT_MAX;
constexpr int kSharing = 3;

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937;

// The kernels that this CPU can run.
std::vector<std::string> SupportedKernels() {
  std::vector<std::string> names;
  std::istringstream known(KernelNames());
  for (std::string name; std::getline(known >> std::ws, name, ',');) {
    if (FindKernels(name.c_str()) != nullptr) names.push_back(name);
  }
  return names;
}

Delegate RequireDelegate(const std::string& kernel, int num_threads) {
  Delegate delegate = MakeDelegate({{"kernel", kernel},
                                    {"num_threads", std::to_string(num_threads)},
                                    {"float_ops", "delegate"}});
  if (delegate == nullptr) throw std::runtime_error("no delegate for kernel " + kernel);
  return delegate;
}

// The graph's input for a batch, of the kind that is interesting for its type.
Bytes RandomInput(const Graph& graph, const std::vector<int>& dims, Random& random) {
  const Tensor& tensor = graph.tensors[0];
  size_t rows = 1;
  for (size_t i = 0; i + 1 < dims.size(); ++i) rows *= dims[i];
  Values values;
  values.dims = dims;
  values.dims.back() = tensor.channels;
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < rows * tensor.channels; ++i) {
    static constexpr float kSpecial[] = {0.0f,   -0.0f,     1e-45f,   -1e-45f,
                                         1e-38f, -INFINITY, INFINITY, NAN};
    float value = normal(random);
    switch (tensor.type) {
      case kTfLiteFloat32:
        // The last ones make NaNs, and which bits a NaN has no kernel promises.
        if (random() % 16 == 0) value = kSpecial[random() % (graph.has_float_ops ? 5 : 8)];
        break;
      case kTfLiteInt8:
        value = static_cast<float>(static_cast<int>(random() % 256) - 128);
        break;
      case kTfLiteUInt8:
        value = static_cast<float>(random() % 256);
        break;
      case kTfLiteBool:
        value = static_cast<float>(random() % 2);
        break;
      default:
        value = random() % 2 == 0 ? -1.0f : 1.0f;
        break;
    }
    values.values.push_back(value);
  }
  return ToBytes(tensor, values);
}

// Allocates and runs for an input of these dimensions, and returns all outputs.
std::vector<Bytes> Run(Interpreter& interpreter, const Graph& graph, const std::vector<int>& dims,
                       const Bytes& input) {
  if (!interpreter.ResizeInputTensor(0, dims) || !interpreter.AllocateTensors()) {
    throw std::runtime_error("cannot be prepared: " + interpreter.error());
  }
  std::memcpy(interpreter.tensor(0).data, input.data(), input.size());
  if (!interpreter.Invoke()) throw std::runtime_error("cannot run: " + interpreter.error());
  std::vector<Bytes> outputs;
  for (int index : graph.outputs) {
    const TfLiteTensor& tensor = interpreter.tensor(index);
    const auto* data = static_cast<const uint8_t*>(tensor.data);
    outputs.emplace_back(data, data + tensor.bytes);
  }
  return outputs;
}

void RequireEqual(const std::string& what, const Graph& graph, const std::vector<Bytes>& outputs,
                  const std::vector<Bytes>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (outputs[i] == expected[i]) continue;
    throw std::runtime_error(what + ": tensor " + std::to_string(graph.outputs[i]) + " differs");
  }
}

class Check {
 public:
  explicit Check(unsigned seed) : random_(seed) {
    graph_ =
        MakeGraph([this](int n) { return static_cast<int>(random_() % n); }, kMaxNodes, kMaxWork);
    // A batch, another one, and the first again.
    std::vector<int> dims = graph_.tensors[0].dims;
    for (int factor : {1, 2, 1}) {
      dims_.push_back(dims);
      if (dims.size() > 1) dims_.back()[0] *= factor;
      inputs_.push_back(RandomInput(graph_, dims_.back(), random_));
    }
  }

  void All() {
    const Delegate portable = RequireDelegate("portable", 1);
    Interpreter reference(graph_, 1);
    RequireModified(reference, portable);
    for (size_t i = 0; i < dims_.size(); ++i) {
      expected_.push_back(Run(reference, graph_, dims_[i], inputs_[i]));
    }
    if (!graph_.has_stray_bits && !graph_.has_float_ops) RequireEqualToNaive();
    RequireEqualFromSharedDelegate();
    for (const std::string& kernel : SupportedKernels()) {
      for (int threads : {1, 2, 4}) {
        const Delegate delegate = RequireDelegate(kernel, threads);
        const std::string what = kernel + ", " + std::to_string(threads) + " threads";
        Interpreter fused(graph_, kUnlimited);
        RequireModified(fused, delegate);
        // Shares the delegate, and its threads.
        Interpreter partitioned(graph_, 1 + static_cast<int>(random_() % 4));
        RequireModified(partitioned, delegate);
        for (size_t i = 0; i < dims_.size(); ++i) {
          RequireEqual(what + ", fused", graph_, Run(fused, graph_, dims_[i], inputs_[i]),
                       expected_[i]);
          RequireEqual(what + ", partitioned", graph_,
                       Run(partitioned, graph_, dims_[i], inputs_[i]), expected_[i]);
        }
      }
    }
  }

 private:
  static void RequireModified(Interpreter& interpreter, const Delegate& delegate) {
    if (!interpreter.ModifyGraphWithDelegate(delegate.get())) {
      throw std::runtime_error("refused: " + interpreter.error());
    }
  }

  void RequireEqualFromSharedDelegate() const {
    const Delegate delegate = RequireDelegate("portable", 2);
    std::atomic<int> equal{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < kSharing; ++i) {
      threads.emplace_back([&] {
        Interpreter interpreter(graph_);
        const bool runs = interpreter.ModifyGraphWithDelegate(delegate.get());
        equal += runs && Run(interpreter, graph_, dims_[0], inputs_[0]) == expected_[0];
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (equal != kSharing) throw std::runtime_error("a shared delegate: an output differs");
  }

  void RequireEqualToNaive() const {
    const Values input = FromBytes(graph_.tensors[0], dims_[0], inputs_[0]);
    const std::map<int, Values> activations = RunNaively(graph_, input);
    std::vector<Bytes> outputs;
    for (int index : graph_.outputs) {
      outputs.push_back(ToBytes(graph_.tensors[index], activations.at(index)));
    }
    RequireEqual("naive", graph_, outputs, expected_[0]);
  }

  Random random_;
  Graph graph_;
  std::vector<std::vector<int>> dims_;
  std::vector<Bytes> inputs_;
  std::vector<std::vector<Bytes>> expected_;
};

// How many of the graphs failed.
int CheckGraphs(unsigned count, unsigned first_seed) {
  constexpr int kThreads = 4;
  std::atomic<unsigned> next{0};
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (unsigned index = next++; index < count; index = next++) {
        try {
          Check(first_seed + index).All();
        } catch (const std::exception& error) {
          std::fprintf(stderr, "seed %u: %s\n", first_seed + index, error.what());
          ++failed;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return failed;
}

}  // namespace
}  // namespace bireal::testing

int main(int argc, char** argv) {
  using namespace bireal::testing;
  const unsigned graphs = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 300;
  const unsigned first_seed = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 0;
  const int failed = CheckGraphs(graphs, first_seed);
  std::printf("%u graphs, %d failed; kernels:", graphs, failed);
  for (const std::string& name : SupportedKernels()) std::printf(" %s", name.c_str());
  std::printf("\n");
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
