// A small graph of LCE's ops, as a model file would describe it.
#ifndef BIREAL_DELEGATE_TESTING_GRAPH_H_
#define BIREAL_DELEGATE_TESTING_GRAPH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "delegate/tflite_abi.h"

namespace bireal::testing {

struct Tensor {
  TfLiteType type = kTfLiteFloat32;
  std::vector<int> dims;
  float scale = 0.0f;
  int zero_point = 0;
  std::vector<float> scales;  // Of a constant of int8, for its first dimension.
  int channels = 0;           // The last dimension before it was packed.
  bool is_constant = false;
  std::vector<uint8_t> data;  // Of a constant.
};

struct Node {
  // One of LCE's, one of the builtin ones that the delegate runs, or the interpreter's own "Copy".
  std::string op;
  std::vector<int> inputs;
  std::vector<int> outputs;
  std::map<std::string, int> attributes;
  std::vector<uint8_t> options;  // The attributes as the model file holds them.
};

struct Graph {
  std::vector<Tensor> tensors;  // The first one is the graph's input.
  std::vector<Node> nodes;
  std::vector<int> outputs;
  // Filters have bits set after their last channel, which no sign stands for.
  bool has_stray_bits = false;
  // It has a float operator whose results are known up to rounding only, or not at all for a NaN.
  bool has_float_ops = false;
};

// The attributes as a FlexBuffer map, all numbers `width` bytes wide: 2, 4 or 8.
std::vector<uint8_t> EncodeOptions(const std::map<std::string, int>& attributes, int width);

// Returns a number in [0, n): where the choices of a generated graph come from.
using Choose = std::function<int(int n)>;

// A well-formed graph that draws on all that LCE's ops can be asked for. All zeros choose the
// simplest. `max_work` bounds the 32-bit words that its convolutions compare.
Graph MakeGraph(const Choose& choose, int max_nodes, int64_t max_work);

}  // namespace bireal::testing

#endif  // BIREAL_DELEGATE_TESTING_GRAPH_H_
