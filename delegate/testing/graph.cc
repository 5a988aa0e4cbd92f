#include "delegate/testing/graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include "delegate/kernels/kernels.h"

namespace bireal::testing {
namespace {

constexpr int kSame = 0;
constexpr int kValid = 1;
constexpr int kMaxChannels = 1024;

template <typename T>
std::vector<uint8_t> BytesOf(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

int OutputSize(int size, int filter, int stride, int dilation, int padding) {
  const int extent = (filter - 1) * dilation + 1;
  return ((padding == kSame ? size : size - extent + 1) + stride - 1) / stride;
}

class Builder {
 public:
  Builder(const Choose& choose, int64_t max_work) : choose_(choose), work_left_(max_work) {}

  Graph Build(int max_nodes) {
    graph_.has_stray_bits = choose_(8) == 7;
    AddInput();
    int last = 0;
    for (int nodes = 1 + choose_(max_nodes); static_cast<int>(graph_.nodes.size()) < nodes;) {
      // Most graphs are chains; some branch off an earlier activation.
      const int from = choose_(8) == 7 ? Pick(activations_) : last;
      last = AddNode(from);
    }
    graph_.outputs = {last};
    for (int tensor : activations_) {
      const bool is_read =
          std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [tensor](const Node& node) {
            return std::count(node.inputs.begin(), node.inputs.end(), tensor) != 0;
          });
      if (tensor != last && (!is_read || choose_(8) == 7)) graph_.outputs.push_back(tensor);
    }
    return std::move(graph_);
  }

 private:
  int Pick(const std::vector<int>& options) {
    return options[choose_(static_cast<int>(options.size()))];
  }

  int Channels() {
    // Around the sizes of words, vectors and blocks of filters; and any.
    static const std::vector<int> kSizes = {32, 1,  2,  3,  31, 33,  64,  96,
                                            63, 65, 48, 16, 8,  128, 256, 512};
    return choose_(4) == 3 ? 1 + choose_(512) : Pick(kSizes);
  }

  int Add(Tensor tensor) {
    if (!tensor.is_constant) activations_.push_back(static_cast<int>(graph_.tensors.size()));
    graph_.tensors.push_back(std::move(tensor));
    return static_cast<int>(graph_.tensors.size()) - 1;
  }

  int AddConstant(TfLiteType type, std::vector<int> dims, std::vector<uint8_t> data) {
    Tensor tensor;
    tensor.type = type;
    tensor.dims = std::move(dims);
    tensor.is_constant = true;
    tensor.data = std::move(data);
    return Add(std::move(tensor));
  }

  // An activation of these dimensions, of which the last one is `channels` before packing.
  int AddActivation(TfLiteType type, std::vector<int> dims, int channels) {
    Tensor tensor;
    tensor.type = type;
    tensor.dims = std::move(dims);
    tensor.dims.back() = type == kTfLiteInt32 ? WordsFor(channels) : channels;
    tensor.channels = channels;
    if (type == kTfLiteInt8) {
      static constexpr float kScales[] = {0.5f, 0.017f, 3.0f, 1.0f};
      static constexpr int kZeroPoints[] = {0, -128, -3, 7, 127};
      tensor.scale = kScales[choose_(4)];
      tensor.zero_point = kZeroPoints[choose_(5)];
    }
    return Add(std::move(tensor));
  }

  int AddOp(const char* op, std::vector<int> inputs, int output,
            std::map<std::string, int> attributes = {}) {
    Node node;
    node.op = op;
    node.inputs = std::move(inputs);
    node.outputs = {output};
    if (!attributes.empty()) node.options = EncodeOptions(attributes, 2 << choose_(3));
    node.attributes = std::move(attributes);
    // The delegate follows its own operators with the interpreter's.
    const bool follows = std::any_of(node.inputs.begin(), node.inputs.end(),
                                     [this](int input) { return ours_.count(input) != 0; });
    if (node.op != "Copy" && (follows || node.op != "ADD")) ours_.insert(output);
    graph_.nodes.push_back(std::move(node));
    return output;
  }

  void AddInput() {
    static const std::vector<int> kSizes = {4, 1, 2, 3, 5, 6, 7, 8, 9, 11, 14};
    const int rank = choose_(8) == 7 ? 1 + choose_(5) : 4;
    std::vector<int> dims;
    for (int i = 1; i < rank; ++i) dims.push_back(i == 1 ? 1 + 2 * choose_(2) : Pick(kSizes));
    dims.push_back(0);
    static const std::vector<int> kTypes = {kTfLiteFloat32, kTfLiteFloat32, kTfLiteInt32,
                                            kTfLiteFloat32, kTfLiteInt8,    kTfLiteBool,
                                            kTfLiteUInt8};
    const auto type = static_cast<TfLiteType>(Pick(kTypes));
    // Images have few channels.
    const bool is_picture = type == kTfLiteUInt8 || (type == kTfLiteFloat32 && choose_(4) == 3);
    AddActivation(type, std::move(dims), is_picture ? 1 + choose_(4) : Channels());
  }

  int AddNode(int from) {
    const TfLiteType type = graph_.tensors[from].type;
    if (type == kTfLiteInt32) {
      const bool is_image = graph_.tensors[from].dims.size() == 4;
      const int kind = choose_(8);
      if (is_image && kind < 6 && work_left_ > 0) return AddConvolution(from);
      if (is_image && kind < 7) return AddMaxPool(from);
      static const std::vector<int> kTypes = {kTfLiteFloat32, kTfLiteInt8, kTfLiteBool};
      return AddDequantize(from, static_cast<TfLiteType>(Pick(kTypes)));
    }
    if (type == kTfLiteUInt8) {
      // Of pixels that the interpreter writes, the delegate would not make floats.
      const bool is_image = from == 0 && graph_.tensors[from].dims.size() == 4;
      if (!is_image || work_left_ <= 0 || choose_(8) == 7) return AddCopy(from);
      return AddStem(from, 1);
    }
    if (type == kTfLiteFloat32) {
      const int kind = choose_(8);
      if (kind == 7) return AddCopy(from);
      if (kind > 3 && ours_.count(from) != 0 && choose_(2) == 1) return AddChannelOp(from);
      if (kind > 3) return AddSum(from);
      const std::vector<int>& dims = graph_.tensors[from].dims;
      if (dims.size() == 4 && dims[3] <= 4 && kind > 0 && work_left_ > 0) return AddStem(from, 1);
      if (dims.size() == 4 && dims[3] % 4 == 0 && dims[3] <= 32 && kind == 2 && work_left_ > 0) {
        return AddStem(from, dims[3] / 4);
      }
      if (dims.size() == 4 && kind == 3 && work_left_ > 0) {
        // They are the delegate's only after an op that surely is.
        if (choose_(3) == 2) return AddDepthwise(AddDequantize(AddQuantize(from), kTfLiteFloat32));
        const int shortcut = AddShortcut(AddDequantize(AddQuantize(from), kTfLiteFloat32));
        return choose_(2) == 0 ? shortcut : AddHead(shortcut);
      }
    }
    return AddQuantize(from);
  }

  int AddQuantize(int from) {
    const Tensor& input = graph_.tensors[from];
    return AddOp("LceQuantize", {from}, AddActivation(kTfLiteInt32, input.dims, input.channels));
  }

  int AddDequantize(int from, TfLiteType type) {
    const Tensor& input = graph_.tensors[from];
    return AddOp("LceDequantize", {from}, AddActivation(type, input.dims, input.channels));
  }

  int AddCopy(int from) {
    const Tensor& input = graph_.tensors[from];
    return AddOp("Copy", {from}, AddActivation(input.type, input.dims, input.channels));
  }

  // A residual block's end: adds any earlier tensor of the same shape, which may be itself.
  int AddSum(int from) {
    const std::vector<int> dims = graph_.tensors[from].dims;
    std::vector<int> partners;
    for (int tensor : activations_) {
      const Tensor& other = graph_.tensors[tensor];
      if (other.type == kTfLiteFloat32 && other.dims == dims) partners.push_back(tensor);
    }
    const int other = Pick(partners);
    const bool swapped = choose_(2) == 1;
    const int relu = choose_(2);
    const int sum = AddActivation(kTfLiteFloat32, dims, dims.back());
    return AddOp("ADD", swapped ? std::vector<int>{other, from} : std::vector<int>{from, other},
                 sum, {{"fused_activation_function", relu}});
  }

  // An operator on channels: with a constant, with a gate, or with other channels beside them.
  int AddChannelOp(int from) {
    const std::vector<int> dims = graph_.tensors[from].dims;
    const int channels = dims.back();
    const int kind = choose_(7);
    if (kind == 4) return AddConcatenation(from);
    if (kind == 6 && channels > 1) return AddSplit(from);
    if (kind == 5 && dims.size() == 4) return AddGate(from);
    std::minstd_rand random(1 + choose_(1 << 16));
    const bool is_one = choose_(4) == 3;
    const int operand = AddFloats(is_one ? 1 : channels, 1, random);
    if (choose_(2) == 1) graph_.tensors[operand].dims = {1, is_one ? 1 : channels};
    if (dims.size() == 1) graph_.tensors[operand].dims = {is_one ? 1 : channels};
    const int result = AddActivation(kTfLiteFloat32, dims, channels);
    if (kind == 0) return AddOp("PRELU", {from, operand}, result);
    const bool swapped = choose_(2) == 1;
    return AddOp(kind < 3 ? "MUL" : "ADD",
                 swapped ? std::vector<int>{operand, from} : std::vector<int>{from, operand},
                 result, {{"fused_activation_function", choose_(2)}});
  }

  // Before or after the channels of any earlier tensor that fits, which may be itself.
  int AddConcatenation(int from) {
    std::vector<int> dims = graph_.tensors[from].dims;
    const auto without_channels = [](std::vector<int> shape) {
      shape.pop_back();
      return shape;
    };
    std::vector<int> partners;
    for (int tensor : activations_) {
      const Tensor& other = graph_.tensors[tensor];
      if (other.type == kTfLiteFloat32 && without_channels(other.dims) == without_channels(dims) &&
          other.dims.back() + dims.back() <= kMaxChannels) {
        partners.push_back(tensor);
      }
    }
    if (partners.empty()) return AddQuantize(from);
    const int other = Pick(partners);
    dims.back() += graph_.tensors[other].dims.back();
    const bool swapped = choose_(2) == 1;
    return AddOp("CONCATENATION",
                 swapped ? std::vector<int>{other, from} : std::vector<int>{from, other},
                 AddActivation(kTfLiteFloat32, dims, dims.back()),
                 {{"axis", choose_(2) == 0 ? static_cast<int>(dims.size()) - 1 : -1}});
  }

  // Returns the second part, or all channels after something is added to that part.
  int AddSplit(int from) {
    std::vector<int> dims = graph_.tensors[from].dims;
    const int channels = dims.back();
    const int first = 1 + choose_(channels - 1);
    const int sizes =
        AddConstant(kTfLiteInt32, {2}, BytesOf(std::vector<int32_t>{first, channels - first}));
    const int axis = AddConstant(kTfLiteInt32, {1}, BytesOf(std::vector<int32_t>{-1}));
    const int part = AddActivation(kTfLiteFloat32, dims, first);
    const int rest = AddActivation(kTfLiteFloat32, dims, channels - first);
    AddOp("SPLIT_V", {from, sizes, axis}, rest);
    graph_.nodes.back().outputs = {part, rest};
    ours_.insert(part);
    if (dims.size() != 4 || work_left_ <= 0 || choose_(2) == 0) return rest;
    const int addend = choose_(4) == 3 ? rest : AddConvolution(AddQuantize(from), channels - first);
    const std::vector<int> rest_dims = graph_.tensors[rest].dims;
    if (graph_.tensors[addend].dims != rest_dims) return addend;
    const bool swapped = choose_(2) == 1;
    const int sum =
        AddOp("ADD", swapped ? std::vector<int>{addend, rest} : std::vector<int>{rest, addend},
              AddActivation(kTfLiteFloat32, rest_dims, channels - first),
              {{"fused_activation_function", choose_(8) == 7 ? 1 : 0}});
    return AddOp("CONCATENATION", {part, sum}, AddActivation(kTfLiteFloat32, dims, channels),
                 {{"axis", -1}});
  }

  // The sigmoids of the channels' means, by which the channels are multiplied.
  int AddGate(int from) {
    const std::vector<int> dims = graph_.tensors[from].dims;
    const std::vector<int> one = {dims[0], 1, 1, dims[3]};
    graph_.has_float_ops = true;
    const int axes = AddConstant(kTfLiteInt32, {2}, BytesOf(std::vector<int32_t>{1, 2}));
    const int mean = AddOp("MEAN", {from, axes}, AddActivation(kTfLiteFloat32, one, dims[3]),
                           {{"keep_dims", 1}});
    const int gate = AddOp("LOGISTIC", {mean}, AddActivation(kTfLiteFloat32, one, dims[3]));
    return AddOp("MUL", {from, gate}, AddActivation(kTfLiteFloat32, dims, dims[3]),
                 {{"fused_activation_function", 0}});
  }

  int AddMaxPool(int from) {
    const std::vector<int> in = graph_.tensors[from].dims;
    std::map<std::string, int> options;
    const int padding = choose_(2);
    std::vector<int> out = in;
    for (int axis = 0; axis < 2; ++axis) {
      const int size = in[1 + axis];
      const int filter = 1 + choose_(padding == kValid ? std::min(size, 3) : 3);
      const int stride = 1 + choose_(3);
      options[axis == 0 ? "filter_height" : "filter_width"] = filter;
      options[axis == 0 ? "stride_height" : "stride_width"] = stride;
      out[1 + axis] = OutputSize(size, filter, stride, 1, padding);
    }
    options["padding"] = padding;
    const int channels = graph_.tensors[from].channels;
    return AddOp("LceBMaxPool2d", {from}, AddActivation(kTfLiteInt32, out, channels), options);
  }

  // A CONV_2D of few input channels in each group, and perhaps the MAX_POOL_2D after it.
  int AddStem(int from, int groups) {
    const std::vector<int> in = graph_.tensors[from].dims;
    const int kind = groups == 1 ? choose_(3) : 1 + choose_(2);
    const int filter = kind == 0 ? 7 : 3;
    const int stride = kind == 1 ? 1 : 2;
    const bool fits = filter <= in[1] && filter <= in[2];
    const int padding = fits ? choose_(2) : kSame;
    std::vector<int> out = in;
    for (int axis : {1, 2}) out[axis] = OutputSize(in[axis], filter, stride, 1, padding);
    static const std::vector<int> kChannelsOut = {16, 64, 1, 3, 8, 20, 33, 65};
    out[3] = (Pick(kChannelsOut) + groups - 1) / groups * groups;
    const int channels_in = in[3] / groups;
    work_left_ -= static_cast<int64_t>(in[0]) * out[1] * out[2] * out[3] * filter * filter;
    graph_.has_float_ops = true;
    std::minstd_rand random(1 + choose_(1 << 16));
    const int image =
        graph_.tensors[from].type == kTfLiteUInt8 ? AddNormalized(from, in, random) : from;
    const std::vector<int> filter_dims = {out[3], filter, filter, channels_in};
    // It reads through a DEQUANTIZE in the first turn only.
    const int filter_tensor = AddStemWeights(filter_dims, from == 0 ? choose_(3) : 0, random);
    const int bias = AddFloats(out[3], 1, random);
    const int relu = choose_(2);
    const int map =
        AddOp("CONV_2D", {image, filter_tensor, bias}, AddActivation(kTfLiteFloat32, out, out[3]),
              {{"padding", 1 + padding},
               {"stride_height", stride},
               {"stride_width", stride},
               {"fused_activation_function", relu},
               {"dilation_height_factor", 1},
               {"dilation_width_factor", 1}});
    const int values = choose_(2) == 0 ? AddFloatMaxPool(map) : map;
    // In a graph without an op of LCE's it would not be the delegate's.
    const int packed = AddQuantize(values);
    return choose_(2) == 0 ? values : packed;
  }

  // What nobody but the next node reads.
  int AddPassing(std::vector<int> dims) {
    Tensor tensor;
    tensor.dims = std::move(dims);
    graph_.tensors.push_back(std::move(tensor));
    return static_cast<int>(graph_.tensors.size()) - 1;
  }

  // Floats of an image of uint8: a CAST, perhaps a MUL and a SUB.
  int AddNormalized(int from, const std::vector<int>& dims, std::minstd_rand& random) {
    int image = AddOp("CAST", {from}, AddPassing(dims));
    for (const char* op : {"MUL", "SUB"}) {
      if (choose_(4) == 3) continue;
      const int numbers = choose_(3) == 2 ? dims[3] : 1;
      const int constant = AddFloats(numbers, 1, random);
      image = AddOp(op, {image, constant}, AddPassing(dims), {{"fused_activation_function", 0}});
    }
    return image;
  }

  // Weights of float32, or a DEQUANTIZE of float16 or int8.
  int AddStemWeights(const std::vector<int>& dims, int kind, std::minstd_rand& random) {
    size_t count = 1;
    for (int dim : dims) count *= dim;
    if (kind == 0) {
      std::vector<float> weights(count);
      for (float& weight : weights) weight = std::normal_distribution<float>()(random);
      return AddConstant(kTfLiteFloat32, dims, BytesOf(weights));
    }
    int stored;
    if (kind == 1) {
      std::vector<uint16_t> halves(count);
      // Up to 4, no infinity and no NaN.
      for (uint16_t& half : halves)
        half = static_cast<uint16_t>((random() % 0x4400) | (random() << 15));
      stored = AddConstant(kTfLiteFloat16, dims, BytesOf(halves));
    } else {
      stored = AddInt8(dims, random);
    }
    return AddOp("DEQUANTIZE", {stored}, AddPassing(dims));
  }

  // Weights of int8 with a scale for each output.
  int AddInt8(const std::vector<int>& dims, std::minstd_rand& random) {
    size_t count = 1;
    for (int dim : dims) count *= dim;
    std::vector<int8_t> weights(count);
    for (int8_t& weight : weights) weight = static_cast<int8_t>(random() % 256);
    const int tensor = AddConstant(kTfLiteInt8, dims, BytesOf(weights));
    std::vector<float> scales(dims[0]);
    for (float& scale : scales) scale = std::uniform_real_distribution<float>(0, 0.1f)(random);
    graph_.tensors[tensor].scales = std::move(scales);
    return tensor;
  }

  // An AVERAGE_POOL_2D and a CONV_2D of 1x1.
  int AddShortcut(int from) {
    std::vector<int> dims = graph_.tensors[from].dims;
    std::map<std::string, int> attributes = {{"fused_activation_function", 0}};
    const bool fits = dims[1] >= 3 && dims[2] >= 3;
    const int padding = fits ? choose_(2) : kSame;
    attributes["padding"] = 1 + padding;
    for (int axis : {1, 2}) {
      const int filter = 1 + choose_(3);
      const int stride = 1 + choose_(3);
      attributes[axis == 1 ? "filter_height" : "filter_width"] = filter;
      attributes[axis == 1 ? "stride_height" : "stride_width"] = stride;
      dims[axis] = OutputSize(dims[axis], filter, stride, 1, padding);
    }
    const int pooled =
        AddOp("AVERAGE_POOL_2D", {from}, AddActivation(kTfLiteFloat32, dims, dims[3]), attributes);
    return AddDense("CONV_2D", pooled, dims,
                    {{"padding", 1},
                     {"stride_height", 1},
                     {"stride_width", 1},
                     {"dilation_height_factor", 1},
                     {"dilation_width_factor", 1}});
  }

  int AddDepthwise(int from) {
    std::vector<int> dims = graph_.tensors[from].dims;
    const int channels = dims[3];
    std::map<std::string, int> attributes = {{"depth_multiplier", 1},
                                             {"dilation_height_factor", 1},
                                             {"dilation_width_factor", 1},
                                             {"fused_activation_function", choose_(2)}};
    const bool fits = dims[1] >= 3 && dims[2] >= 3;
    const int padding = fits ? choose_(2) : kSame;
    attributes["padding"] = 1 + padding;
    std::vector<int> filter = {1, 0, 0, channels};
    for (int axis : {1, 2}) {
      filter[axis] = 1 + choose_(3);
      const int stride = 1 + choose_(3);
      attributes[axis == 1 ? "stride_height" : "stride_width"] = stride;
      dims[axis] = OutputSize(dims[axis], filter[axis], stride, 1, padding);
    }
    graph_.has_float_ops = true;
    std::minstd_rand random(1 + choose_(1 << 16));
    const int weights = AddFloats(filter[1] * filter[2] * channels, 1, random);
    graph_.tensors[weights].dims = filter;
    const int bias = AddFloats(channels, 1, random);
    return AddOp("DEPTHWISE_CONV_2D", {from, weights, bias},
                 AddActivation(kTfLiteFloat32, dims, channels), attributes);
  }

  // A MEAN, a FULLY_CONNECTED and a SOFTMAX.
  int AddHead(int from) {
    const std::vector<int> in = graph_.tensors[from].dims;
    const int keeps_rank = choose_(2);
    const std::vector<int> dims =
        keeps_rank ? std::vector<int>{in[0], 1, 1, in[3]} : std::vector<int>{in[0], in[3]};
    const int axes = AddConstant(kTfLiteInt32, {2}, BytesOf(std::vector<int32_t>{1, 2}));
    const int mean = AddOp("MEAN", {from, axes}, AddActivation(kTfLiteFloat32, dims, in[3]),
                           {{"keep_dims", keeps_rank}});
    const int logits = AddDense("FULLY_CONNECTED", mean, dims, {{"keep_num_dims", keeps_rank}});
    const std::vector<int> out = graph_.tensors[logits].dims;
    return AddOp("SOFTMAX", {logits}, AddActivation(kTfLiteFloat32, out, out.back()),
                 {{"beta", 1}});
  }

  // The product of `from`, of these dimensions, and a matrix.
  int AddDense(const char* op, int from, std::vector<int> dims,
               std::map<std::string, int> attributes) {
    static const std::vector<int> kChannelsOut = {16, 64, 1, 3, 8, 20, 33, 65};
    const int channels_in = dims.back();
    dims.back() = Pick(kChannelsOut);
    std::vector<int> filter = {dims.back(), channels_in};
    if (std::string(op) == "CONV_2D") filter = {dims.back(), 1, 1, channels_in};
    int64_t work = channels_in;
    for (int dim : dims) work *= dim;
    work_left_ -= work;
    graph_.has_float_ops = true;
    std::minstd_rand random(1 + choose_(1 << 16));
    // CONV_2D has a dynamic range with weights of int8, of scales that differ.
    int filter_tensor;
    if (filter.size() == 4 && dims.back() > 1 && choose_(2) == 1) {
      filter_tensor = AddInt8(filter, random);
    } else {
      std::vector<float> weights(static_cast<size_t>(dims.back()) * channels_in);
      for (float& weight : weights) weight = std::normal_distribution<float>()(random);
      filter_tensor = AddConstant(kTfLiteFloat32, filter, BytesOf(weights));
    }
    const int bias = AddFloats(dims.back(), 1, random);
    attributes["fused_activation_function"] = choose_(2);
    return AddOp(op, {from, filter_tensor, bias}, AddActivation(kTfLiteFloat32, dims, dims.back()),
                 attributes);
  }

  int AddFloatMaxPool(int from) {
    std::vector<int> dims = graph_.tensors[from].dims;
    std::map<std::string, int> attributes;
    const bool fits = dims[1] >= 3 && dims[2] >= 3;
    const int padding = fits ? choose_(2) : kSame;
    attributes["padding"] = 1 + padding;
    attributes["fused_activation_function"] = choose_(4) == 3 ? 1 : 0;
    for (int axis : {1, 2}) {
      const int filter = 2 + choose_(2);
      const int stride = 1 + choose_(3);
      attributes[axis == 1 ? "filter_height" : "filter_width"] = filter;
      attributes[axis == 1 ? "stride_height" : "stride_width"] = stride;
      dims[axis] = OutputSize(dims[axis], filter, stride, 1, padding);
    }
    return AddOp("MAX_POOL_2D", {from}, AddActivation(kTfLiteFloat32, dims, dims[3]), attributes);
  }

  // Of floats that have the input's size if their channels are given. Work that is left may limit
  // them.
  int AddConvolution(int from, int wanted_channels = 0) {
    const std::vector<int> in = graph_.tensors[from].dims;
    const int channels_in = graph_.tensors[from].channels;
    // Half of them keep the shape, so that shortcuts fit.
    const bool keeps_shape = wanted_channels > 0 || choose_(2) == 0;
    std::map<std::string, int> options;
    int filter[2];
    std::vector<int> out = in;
    int padding = keeps_shape ? kSame : choose_(2);
    for (int axis = 0; axis < 2; ++axis) {
      static const std::vector<int> kFilters = {3, 1, 2, 3, 5};
      filter[axis] = Pick(kFilters);
      const int stride = keeps_shape ? 1 : 1 + choose_(3);
      const int dilation = 1 + (choose_(4) == 3 ? choose_(3) : 0);
      if ((filter[axis] - 1) * dilation + 1 > in[1 + axis]) padding = kSame;
      options[axis == 0 ? "stride_height" : "stride_width"] = stride;
      options[axis == 0 ? "dilation_height_factor" : "dilation_width_factor"] = dilation;
    }
    for (int axis = 0; axis < 2; ++axis) {
      out[1 + axis] = OutputSize(
          in[1 + axis], filter[axis], options[axis == 0 ? "stride_height" : "stride_width"],
          options[axis == 0 ? "dilation_height_factor" : "dilation_width_factor"], padding);
    }
    options["padding"] = padding;
    options["pad_values"] = choose_(2);
    options["fused_activation_function"] = keeps_shape ? 0 : choose_(5);
    options["channels_in"] = channels_in;

    int groups = 1;
    if (channels_in % kBitsPerWord == 0 && choose_(4) == 3) {
      groups = 1 + choose_(in[3]);
      while (in[3] % groups != 0) --groups;
    }
    int channels_out = wanted_channels > 0 ? wanted_channels
                       : keeps_shape       ? channels_in
                                           : Channels();
    const int words = WordsFor(channels_in / groups);
    const int64_t work_per_channel =
        static_cast<int64_t>(in[0]) * out[1] * out[2] * filter[0] * filter[1] * words;
    if (work_per_channel * channels_out > work_left_) {
      channels_out = static_cast<int>(std::max<int64_t>(1, work_left_ / work_per_channel));
    }
    channels_out = (channels_out + groups - 1) / groups * groups;
    work_left_ -= work_per_channel * channels_out;

    static const std::vector<int> kTypes = {kTfLiteFloat32, kTfLiteInt32, kTfLiteInt8};
    const auto type = keeps_shape ? kTfLiteFloat32 : static_cast<TfLiteType>(Pick(kTypes));
    const int depth = filter[0] * filter[1] * (channels_in / groups);
    std::minstd_rand random(1 + choose_(1 << 16));
    std::vector<int> inputs = {
        from, AddFilter({channels_out, filter[0], filter[1], words}, channels_in / groups, random)};
    if (type == kTfLiteInt32) {
      std::vector<int32_t> thresholds(channels_out);
      for (int32_t& threshold : thresholds) {
        const int kind = static_cast<int>(random() % 10);
        threshold = kind == 0   ? INT32_MIN
                    : kind == 1 ? INT32_MAX
                                : depth / 4 + static_cast<int>(random() % (depth / 2 + 1));
      }
      inputs.insert(inputs.end(),
                    {-1, -1, AddConstant(kTfLiteInt32, {channels_out}, BytesOf(thresholds))});
    } else {
      inputs.insert(inputs.end(),
                    {AddFloats(channels_out, 1, random), AddFloats(channels_out, 5, random), -1});
    }
    return AddOp("LceBconv2d", inputs, AddActivation(type, out, channels_out), options);
  }

  int AddFloats(int count, float deviation, std::minstd_rand& random) {
    std::vector<float> values(count);
    const bool are_quarters = random() % 2 == 0;  // Of which many results are ties.
    for (float& value : values) {
      value = std::normal_distribution<float>(0, deviation)(random);
      if (are_quarters) value = std::round(4.0f * value) / 4.0f;
    }
    return AddConstant(kTfLiteFloat32, {count}, BytesOf(values));
  }

  int AddFilter(const std::vector<int>& dims, int channels, std::minstd_rand& random) {
    std::vector<uint32_t> words(static_cast<size_t>(dims[0]) * dims[1] * dims[2] * dims[3]);
    const int rest = channels % kBitsPerWord;
    for (size_t i = 0; i < words.size(); ++i) {
      words[i] = static_cast<uint32_t>(random() << 16 ^ random());
      if ((i + 1) % dims[3] == 0 && rest != 0 && !graph_.has_stray_bits) {
        words[i] &= (uint32_t{1} << rest) - 1;
      }
    }
    return AddConstant(kTfLiteInt32, dims, BytesOf(words));
  }

  const Choose& choose_;
  int64_t work_left_;
  Graph graph_;
  std::vector<int> activations_;
  std::set<int> ours_;  // Activations that the delegate computes.
};

}  // namespace

// https://flatbuffers.dev/internals/#flexbuffers
std::vector<uint8_t> EncodeOptions(const std::map<std::string, int>& attributes, int width) {
  constexpr int kIntType = 1;
  constexpr int kMapType = 9;
  const int log2_width = width == 2 ? 1 : width == 4 ? 2 : 3;
  std::vector<uint8_t> out;
  const auto append = [&](int64_t value) {
    for (int i = 0; i < width; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
  };
  // Offsets point backwards.
  const auto append_offset = [&](size_t target) {
    append(static_cast<int64_t>(out.size() - target));
  };
  std::vector<size_t> keys;
  for (const auto& attribute : attributes) {
    keys.push_back(out.size());
    out.insert(out.end(), attribute.first.c_str(),
               attribute.first.c_str() + attribute.first.size() + 1);
  }
  append(static_cast<int64_t>(keys.size()));
  const size_t keys_vector = out.size();
  for (size_t key : keys) append_offset(key);
  append_offset(keys_vector);
  append(width);
  append(static_cast<int64_t>(keys.size()));
  const size_t values = out.size();
  for (const auto& attribute : attributes) append(attribute.second);
  out.insert(out.end(), keys.size(), static_cast<uint8_t>(kIntType << 2 | log2_width));
  append_offset(values);
  out.push_back(static_cast<uint8_t>(kMapType << 2 | log2_width));
  out.push_back(static_cast<uint8_t>(width));
  return out;
}

Graph MakeGraph(const Choose& choose, int max_nodes, int64_t max_work) {
  return Builder(choose, max_work).Build(max_nodes);
}

}  // namespace bireal::testing
