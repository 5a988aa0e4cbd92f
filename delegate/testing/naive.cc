#include "delegate/testing/naive.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "delegate/denormals.h"

namespace bireal::testing {
namespace {

constexpr int kWordBits = 32;

bool Bit(const uint8_t* words, size_t word, int bit) {
  return (words[word * 4 + bit / 8] >> (bit % 8) & 1) != 0;
}

template <typename T>
T At(const Tensor& constant, int index) {
  T value;
  std::memcpy(&value, constant.data.data() + index * sizeof(T), sizeof(T));
  return value;
}

size_t Count(const std::vector<int>& dims) {
  size_t count = 1;
  for (int dim : dims) count *= dim;
  return count;
}

float Saturate(double value) { return static_cast<float>(std::clamp(value, -128.0, 127.0)); }

// A window over one axis.
struct Axis {
  int in, out, filter, stride, dilation, before;
};

Axis MakeAxis(int in, int filter, int stride, int dilation, bool is_valid) {
  const int extent = (filter - 1) * dilation + 1;
  const int out = ((is_valid ? in - extent + 1 : in) + stride - 1) / stride;
  const int before = is_valid ? 0 : std::max(0, (out - 1) * stride + extent - in) / 2;
  return {in, out, filter, stride, dilation, before};
}

Values Quantize(const Tensor& from, const Values& input) {
  Values result = input;
  for (float& value : result.values) {
    const bool is_negative = from.type == kTfLiteFloat32 ? value < 0.0f
                             : from.type == kTfLiteBool  ? value == 0.0f
                                                         : value < from.zero_point;
    value = is_negative ? -1.0f : 1.0f;
  }
  return result;
}

Values Dequantize(const Tensor& to, const Values& input) {
  Values result = input;
  for (float& value : result.values) {
    if (to.type == kTfLiteBool) value = value > 0.0f ? 1.0f : 0.0f;
    if (to.type == kTfLiteInt8) {
      value = Saturate(to.zero_point + value * std::floor(1.0f / to.scale + 0.5f));
    }
  }
  return result;
}

Values Add(const Values& a, const Values& b, bool relu) {
  Values result = a;
  for (size_t i = 0; i < result.values.size(); ++i) {
    const float sum = a.values[i] + b.values[i];
    result.values[i] = relu && sum < 0.0f ? 0.0f : sum;
  }
  return result;
}

// MUL, ADD and PRELU with a constant, for each channel or for all of them.
Values CombineChannels(const Node& node, const Values& x, const Tensor& operand) {
  const bool is_one = operand.data.size() == sizeof(float);
  Values result = x;
  for (size_t i = 0; i < result.values.size(); ++i) {
    const auto value = At<float>(operand, is_one ? 0 : static_cast<int>(i % x.dims.back()));
    float& y = result.values[i];
    if (node.op == "PRELU") {
      if (y < 0.0f) y *= value;
      continue;
    }
    y = node.op == "MUL" ? y * value : y + value;
    if (node.attributes.at("fused_activation_function") == 1 && y < 0.0f) y = 0.0f;
  }
  return result;
}

Values Channels(const Values& x, int begin, int end) {
  Values result;
  result.dims = x.dims;
  result.dims.back() = end - begin;
  for (size_t i = 0; i < x.values.size(); ++i) {
    const int channel = static_cast<int>(i % x.dims.back());
    if (channel >= begin && channel < end) result.values.push_back(x.values[i]);
  }
  return result;
}

Values Concatenate(const Values& a, const Values& b) {
  Values result;
  result.dims = a.dims;
  result.dims.back() += b.dims.back();
  for (size_t pixel = 0; pixel < a.values.size() / a.dims.back(); ++pixel) {
    for (const Values* part : {&a, &b}) {
      const auto first = part->values.begin() + static_cast<ptrdiff_t>(pixel * part->dims.back());
      result.values.insert(result.values.end(), first, first + part->dims.back());
    }
  }
  return result;
}

Values MaxPool(const Node& node, const Values& input) {
  const auto option = [&](const char* name) { return node.attributes.at(name); };
  const bool is_valid = option("padding") == 1;
  const Axis y =
      MakeAxis(input.dims[1], option("filter_height"), option("stride_height"), 1, is_valid);
  const Axis x =
      MakeAxis(input.dims[2], option("filter_width"), option("stride_width"), 1, is_valid);
  const int channels = input.dims[3];
  Values result;
  result.dims = {input.dims[0], y.out, x.out, channels};
  for (int n = 0; n < input.dims[0]; ++n) {
    for (int oy = 0; oy < y.out; ++oy) {
      for (int ox = 0; ox < x.out; ++ox) {
        for (int c = 0; c < channels; ++c) {
          float maximum = -1.0f;
          for (int fy = 0; fy < y.filter; ++fy) {
            for (int fx = 0; fx < x.filter; ++fx) {
              const int iy = oy * y.stride - y.before + fy;
              const int ix = ox * x.stride - x.before + fx;
              if (iy < 0 || iy >= y.in || ix < 0 || ix >= x.in) continue;
              const size_t pixel = (static_cast<size_t>(n) * y.in + iy) * x.in + ix;
              maximum = std::max(maximum, input.values[pixel * channels + c]);
            }
          }
          result.values.push_back(maximum);
        }
      }
    }
  }
  return result;
}

// From the value of a convolution to the value of its output.
float Finish(const Graph& graph, const Node& node, const Tensor& to, int channel, int depth,
             int value) {
  if (to.type == kTfLiteInt32) {
    const int64_t threshold = At<int32_t>(graph.tensors[node.inputs[4]], channel);
    return depth - value > 2 * threshold ? -1.0f : 1.0f;
  }
  switch (node.attributes.at("fused_activation_function")) {
    case 1:
      value = std::max(value, 0);
      break;
    case 2:
      value = std::clamp(value, -1, 1);
      break;
    case 3:
      value = std::clamp(value, 0, 6);
      break;
  }
  const double multiplier = At<float>(graph.tensors[node.inputs[2]], channel);
  const double bias = At<float>(graph.tensors[node.inputs[3]], channel);
  const bool is_int8 = to.type == kTfLiteInt8;
  const double scale = is_int8 ? to.scale : 1.0;
  const auto slope = static_cast<float>(-multiplier / scale);
  const auto offset =
      static_cast<float>((bias + depth * multiplier) / scale + (is_int8 ? to.zero_point : 0));
  const float y = static_cast<float>(depth - value) * slope + offset;
  return is_int8 ? Saturate(std::round(static_cast<double>(y))) : y;
}

Values Convolve(const Graph& graph, const Node& node, const Values& input) {
  const auto option = [&](const char* name) { return node.attributes.at(name); };
  const Tensor& filter = graph.tensors[node.inputs[1]];
  const Tensor& to = graph.tensors[node.outputs[0]];
  const bool is_valid = option("padding") == 1;
  const Axis y = MakeAxis(input.dims[1], filter.dims[1], option("stride_height"),
                          option("dilation_height_factor"), is_valid);
  const Axis x = MakeAxis(input.dims[2], filter.dims[2], option("stride_width"),
                          option("dilation_width_factor"), is_valid);
  const int channels_in = input.dims[3];
  const int channels_out = filter.dims[0];
  const int words = filter.dims[3];
  const int groups = ((channels_in + kWordBits - 1) / kWordBits) / words;
  const int depth = channels_in / groups;
  const int padding = option("pad_values");
  Values result;
  result.dims = {input.dims[0], y.out, x.out, channels_out};
  for (int n = 0; n < input.dims[0]; ++n) {
    for (int oy = 0; oy < y.out; ++oy) {
      for (int ox = 0; ox < x.out; ++ox) {
        for (int o = 0; o < channels_out; ++o) {
          const int group = o / (channels_out / groups);
          int sum = 0;
          for (int tap = 0; tap < y.filter * x.filter; ++tap) {
            const int iy = oy * y.stride - y.before + tap / x.filter * y.dilation;
            const int ix = ox * x.stride - x.before + tap % x.filter * x.dilation;
            const bool is_inside = iy >= 0 && iy < y.in && ix >= 0 && ix < x.in;
            const size_t pixel = (static_cast<size_t>(n) * y.in + iy) * x.in + ix;
            const size_t first_word = (static_cast<size_t>(o) * y.filter * x.filter + tap) * words;
            for (int c = 0; c < depth; ++c) {
              const int value =
                  is_inside
                      ? static_cast<int>(input.values[pixel * channels_in + group * depth + c])
                      : padding;
              const bool is_minus =
                  Bit(filter.data.data(), first_word + c / kWordBits, c % kWordBits);
              sum += is_minus ? -value : value;
            }
          }
          result.values.push_back(Finish(graph, node, to, o, y.filter * x.filter * depth, sum));
        }
      }
    }
  }
  return result;
}

}  // namespace

std::vector<uint8_t> ToBytes(const Tensor& tensor, const Values& values) {
  std::vector<uint8_t> bytes;
  const int channels = values.dims.back();
  if (tensor.type == kTfLiteInt32) {
    const int word_bytes = (channels + kWordBits - 1) / kWordBits * 4;
    bytes.resize(values.values.size() / channels * word_bytes);
    for (size_t i = 0; i < values.values.size(); ++i) {
      const int c = static_cast<int>(i % channels);
      if (values.values[i] < 0.0f) bytes[i / channels * word_bytes + c / 8] |= 1 << (c % 8);
    }
  } else if (tensor.type == kTfLiteFloat32) {
    bytes.resize(values.values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.values.data(), bytes.size());
  } else {
    for (float value : values.values)
      bytes.push_back(static_cast<uint8_t>(static_cast<int>(value)));
  }
  return bytes;
}

Values FromBytes(const Tensor& tensor, const std::vector<int>& dims,
                 const std::vector<uint8_t>& bytes) {
  Values result;
  result.dims = dims;
  result.dims.back() = tensor.channels;
  result.values.resize(Count(result.dims));
  for (size_t i = 0; i < result.values.size(); ++i) {
    float& value = result.values[i];
    if (tensor.type == kTfLiteInt32) {
      const int c = static_cast<int>(i % tensor.channels);
      const size_t word = i / tensor.channels * dims.back() + c / kWordBits;
      value = Bit(bytes.data(), word, c % kWordBits) ? -1.0f : 1.0f;
    } else if (tensor.type == kTfLiteFloat32) {
      std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof(float));
    } else {
      value = tensor.type == kTfLiteInt8 ? static_cast<int8_t>(bytes[i]) : bytes[i];
    }
  }
  return result;
}

std::map<int, Values> RunNaively(const Graph& graph, const Values& input) {
  const FlushDenormals flush_denormals;
  std::map<int, Values> activations = {{0, input}};
  for (const Node& node : graph.nodes) {
    // The operator's constant, if it has one of two inputs; or else it is not looked at.
    const bool is_swapped = graph.tensors[node.inputs[0]].is_constant;
    const Values& from = activations.at(node.inputs[is_swapped ? 1 : 0]);
    const int second = node.inputs.size() == 2 ? node.inputs[is_swapped ? 0 : 1] : -1;
    const bool has_constant = second >= 0 && graph.tensors[second].is_constant;
    const Tensor& to = graph.tensors[node.outputs[0]];
    Values result;
    if (node.op == "LceQuantize") {
      result = Quantize(graph.tensors[node.inputs[0]], from);
    } else if (node.op == "LceDequantize") {
      result = Dequantize(to, from);
    } else if (node.op == "LceBMaxPool2d") {
      result = MaxPool(node, from);
    } else if (node.op == "LceBconv2d") {
      result = Convolve(graph, node, from);
    } else if (has_constant) {
      result = CombineChannels(node, from, graph.tensors[second]);
    } else if (node.op == "CONCATENATION") {
      result = Concatenate(from, activations.at(second));
    } else if (node.op == "ADD") {
      result = Add(from, activations.at(node.inputs[1]),
                   node.attributes.at("fused_activation_function") == 1);
    } else {
      result = from;
    }
    if (node.op == "SPLIT_V") {
      activations[node.outputs[0]] =
          Channels(from, 0, At<int32_t>(graph.tensors[node.inputs[1]], 0));
      result = Channels(from, activations[node.outputs[0]].dims.back(), from.dims.back());
    }
    activations[node.outputs.back()] = std::move(result);
  }
  return activations;
}

}  // namespace bireal::testing
