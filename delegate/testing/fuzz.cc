// Anything a model file or a user may say, to a fuzzer's liking: a well-formed random graph with
// some of it changed, options of the delegate, a resize. The delegate may refuse; it must not
// crash, hang or leak.
//
// Built with -fsanitize=fuzzer, or with fuzz_main.cc to replay files.
#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "delegate/testing/delegate.h"
#include "delegate/testing/graph.h"
#include "delegate/testing/interpreter.h"

namespace bireal::testing {
namespace {

// Bounds on what one input can cost. None of them hides a size from the checks of the delegate:
// options and declared shapes may say anything.
constexpr int kMaxNodes = 8;
constexpr int64_t kMaxWork = 1 << 13;
constexpr size_t kMaxTensorBytes = 1 << 14;
constexpr int kMaxChanges = 6;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // Zeros after the end.
  int Byte() { return size_ == 0 ? 0 : (--size_, *data_++); }

  int Below(int n) { return (n <= 256 ? Byte() : Byte() << 8 | Byte()) % n; }

  template <typename T>
  T Value() {
    uint8_t bytes[sizeof(T)];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(Byte());
    T value;
    std::memcpy(&value, bytes, sizeof(T));
    return value;
  }

  std::vector<uint8_t> Bytes(int count) {
    std::vector<uint8_t> bytes(count);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(Byte());
    return bytes;
  }

  // A size, a count or an option.
  int Number() {
    static constexpr int kNumbers[] = {0,  1,  2,  3,     4,       5,       7,       31,      32,
                                       33, 64, 96, 65536, 1 << 29, 1 << 30, INT_MAX, INT_MIN, -1};
    const int kind = Below(static_cast<int>(std::size(kNumbers)) + 2);
    if (kind < static_cast<int>(std::size(kNumbers))) return kNumbers[kind];
    const int any = Value<int>();
    // Half of them are from 2^30 to 2^31, where a sum of two no longer fits an int.
    return kind % 2 == 0 ? any : (any & INT_MAX) | 1 << 30;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// What differs from the well-formed graph. Read before the graph is made, so that a fuzzer can
// change the one and keep the other.
struct Change {
  int kind;
  int which;  // Tensor or node, modulo their number.
  int part;   // Of it.
  int number;
  float real;
  std::vector<uint8_t> bytes;
};

Change ReadChange(Input& input) {
  Change change;
  change.kind = input.Byte();
  change.which = input.Byte();
  change.part = input.Byte();
  change.number = input.Number();
  static constexpr float kReals[] = {0.0f,
                                     -1.0f,
                                     1e-45f,
                                     1e38f,
                                     std::numeric_limits<float>::infinity(),
                                     std::numeric_limits<float>::quiet_NaN()};
  const int kind = input.Below(static_cast<int>(std::size(kReals)) + 1);
  change.real = kind < static_cast<int>(std::size(kReals)) ? kReals[kind] : input.Value<float>();
  change.bytes = input.Bytes(input.Byte() % 64);
  return change;
}

void ChangeTensor(const Change& change, Tensor& tensor) {
  const auto part = static_cast<size_t>(change.part);
  static constexpr int kTypes[] = {kTfLiteFloat32, kTfLiteInt32,  kTfLiteInt8,
                                   kTfLiteBool,    kTfLiteNoType, 5,
                                   INT_MAX,        kTfLiteUInt8,  kTfLiteFloat16};
  switch (change.kind % 7) {
    case 0:
      tensor.type = static_cast<TfLiteType>(kTypes[part % std::size(kTypes)]);
      break;
    case 1:
      if (!tensor.dims.empty()) tensor.dims[part % tensor.dims.size()] = change.number;
      break;
    case 2:
      tensor.dims.resize(part % 8, change.number);
      break;
    case 3:
      tensor.scale = change.real;
      if (!tensor.scales.empty()) tensor.scales.resize(1 + part % 70, change.real);
      break;
    case 4:
      tensor.zero_point = change.number;
      break;
    case 5:
      tensor.is_constant = !tensor.is_constant;
      break;
    default:
      // Also a constant that is too short or too long.
      if (part < 128)
        tensor.data.resize(std::max(0, static_cast<int>(tensor.data.size()) + change.part - 64));
      for (size_t i = 0; i + sizeof(float) <= tensor.data.size() && part % 2 == 1; i += 8) {
        std::memcpy(&tensor.data[i], &change.real, sizeof(float));
      }
      break;
  }
}

void ChangeNode(const Change& change, int tensors, Node& node) {
  static const char* const kOps[] = {"LceQuantize",
                                     "LceDequantize",
                                     "LceBconv2d",
                                     "LceBMaxPool2d",
                                     "ADD",
                                     "CONV_2D",
                                     "MAX_POOL_2D",
                                     "Copy",
                                     "Other",
                                     "AVERAGE_POOL_2D",
                                     "MEAN",
                                     "FULLY_CONNECTED",
                                     "SOFTMAX",
                                     "DEQUANTIZE",
                                     "CAST",
                                     "MUL",
                                     "SUB",
                                     "PRELU",
                                     "LOGISTIC",
                                     "CONCATENATION",
                                     "DEPTHWISE_CONV_2D",
                                     "SPLIT_V"};
  const auto part = static_cast<size_t>(change.part);
  // An index of a tensor, or just outside, or anything.
  const int index = change.number >= 64 ? change.number : change.number % (tensors + 2);
  switch (change.kind % 8) {
    case 0:
      if (!node.inputs.empty()) node.inputs[part % node.inputs.size()] = index;
      break;
    case 1:
      if (!node.outputs.empty()) node.outputs[part % node.outputs.size()] = index;
      break;
    case 2:
      node.inputs.resize(part % 8, index);
      break;
    case 3:
      node.outputs.resize(part % 3, index);
      break;
    case 4:
      if (!node.attributes.empty()) {
        std::next(node.attributes.begin(), static_cast<ptrdiff_t>(part % node.attributes.size()))
            ->second = change.number;
        node.options = EncodeOptions(node.attributes, 8);
      }
      break;
    case 5:
      // This starts at the end, where a FlexBuffer has its root and the types of its values.
      for (size_t i = 0; i < change.bytes.size() && !node.options.empty(); ++i) {
        const size_t size = node.options.size();
        node.options[size - 1 - (part + i) % size] ^= change.bytes[i];
      }
      break;
    case 6: {
      // Another beginning, shorter or longer.
      const auto cut = static_cast<ptrdiff_t>(std::min(part, node.options.size()));
      node.options.erase(node.options.begin(), node.options.begin() + cut);
      node.options.insert(node.options.begin(), change.bytes.begin(), change.bytes.end());
      break;
    }
    default:
      node.op = kOps[part % std::size(kOps)];
      break;
  }
}

void ChangeGraph(const Change& change, Graph& graph) {
  if (graph.nodes.empty()) return;
  const int tensors = static_cast<int>(graph.tensors.size());
  Node& node = graph.nodes[change.which % graph.nodes.size()];
  switch (change.kind / 64) {
    case 0:
      return ChangeTensor(change, graph.tensors[change.which % tensors]);
    case 1:
    case 2:
      return ChangeNode(change, tensors, node);
    default:
      break;
  }
  switch (change.kind % 4) {
    case 0:
      graph.outputs.push_back(change.part % tensors);
      break;
    case 1:
      std::swap(node, graph.nodes[change.part % graph.nodes.size()]);
      break;
    case 2:
      graph.nodes.push_back(Node(node));
      break;
    default:
      graph.nodes.erase(graph.nodes.begin() + change.which % static_cast<int>(graph.nodes.size()));
      break;
  }
}

std::vector<std::pair<std::string, std::string>> ReadDelegateOptions(Input& input) {
  static const char* const kKeys[] = {"num_threads", "kernel", "verbosity", "float_ops"};
  static const char* const kValues[] = {"1",  "2",  "portable", "avx2",     "0",
                                        "-1", "65", "",         "delegate", "litert"};
  std::vector<std::pair<std::string, std::string>> options;
  for (int count = input.Byte() % 4; count > 0; --count) {
    const char* const key = kKeys[input.Byte() % std::size(kKeys)];
    const int value = input.Byte();
    if (value < 240) {
      options.emplace_back(key, kValues[value % std::size(kValues)]);
    } else {
      const std::vector<uint8_t> bytes = input.Bytes(value - 240);
      options.emplace_back(key, std::string(bytes.begin(), bytes.end()));
    }
  }
  return options;
}

void Run(Interpreter& interpreter, int garbage) {
  if (!interpreter.AllocateTensors()) return;
  const TfLiteTensor& input = interpreter.tensor(0);
  if (input.allocation_type != kTfLiteMmapRo) {
    auto* bytes = static_cast<uint8_t*>(input.data);
    for (size_t i = 0; i < input.bytes; ++i) bytes[i] = static_cast<uint8_t>(i * garbage >> 3);
  }
  interpreter.Invoke();
}

void RunOne(Input input) {
  const Delegate delegate = MakeDelegate(ReadDelegateOptions(input));
  if (delegate == nullptr) return;
  std::vector<Change> changes(input.Byte() % (kMaxChanges + 1));
  for (Change& change : changes) change = ReadChange(input);
  const int max_partition = 1 + input.Byte() % kMaxNodes;
  const int garbage = input.Byte();
  const int resized_dim = input.Byte();
  const int size = input.Number();

  Graph graph = MakeGraph([&input](int n) { return input.Below(n); }, kMaxNodes, kMaxWork);
  for (const Change& change : changes) ChangeGraph(change, graph);
  Interpreter interpreter(graph, max_partition, kMaxTensorBytes);
  if (!interpreter.ModifyGraphWithDelegate(delegate.get())) return;
  Run(interpreter, garbage);
  const std::vector<int> dims = graph.tensors[0].dims;
  if (dims.empty()) return;
  std::vector<int> resized = dims;
  resized[resized_dim % dims.size()] = size;
  for (const auto& other : {resized, dims}) {
    if (interpreter.ResizeInputTensor(0, other)) Run(interpreter, garbage);
  }
}

}  // namespace
}  // namespace bireal::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bireal::testing::RunOne(bireal::testing::Input(data, size));
  return 0;
}
