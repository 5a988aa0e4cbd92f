#include "delegate/steps/dynamic_conv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "delegate/kernels/bits.h"
#include "delegate/model.h"

namespace bireal {
namespace {

// What a thread takes at once: a whole number of every kernel's tiles.
constexpr int kChunkPixels = 48;

const TfLiteConvParams& Params(const TfLiteNode& node) {
  return *static_cast<const TfLiteConvParams*>(node.builtin_data);
}

// How floats become int8: x stands for zero + x / scale, rounded.
struct Quantization {
  float scale;
  int zero;
};

// As LiteRT's PortableAsymmetricQuantizeFloats (tensor_utils) chooses it for values from
// `least` <= 0 to `greatest` >= 0. In some versions of TensorFlow the range is not rounded.
Quantization ChooseQuantization(float least, float greatest) {
  constexpr double kLeast = -128;
  constexpr double kGreatest = 127;
  if (least == greatest) return {1.0f, 0};
  const float range = greatest - least;  // Rounded.
  const double scale = range / (kGreatest - kLeast);
  const double before = least / scale;
  const double after = greatest / scale;
  // The end of the range at which less is lost.
  const double zero = -kLeast + std::abs(before) < kGreatest + std::abs(after) ? kLeast - before
                                                                               : kGreatest - after;
  // Not a number where the range is infinite.
  const double nearest = std::round(zero > kLeast ? std::min(zero, kGreatest) : kLeast);
  return {static_cast<float>(scale), static_cast<int>(nearest)};
}

}  // namespace

bool DynamicConvStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 3 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const TfLiteTensor* input = FindFloat(context, node.inputs->data[0]);
  const TfLiteTensor* filter = FindTensor(context, node.inputs->data[1]);
  const TfLiteFloatArray* scales = FindScales(filter);
  if (input == nullptr || input->dims == nullptr || input->dims->size != 4 || scales == nullptr ||
      !IsConstant(filter, 4) || !IsConstant(FindFloat(context, node.inputs->data[2]), 1) ||
      FindFloat(context, node.outputs->data[0]) == nullptr) {
    return false;
  }
  const int* dims = filter->dims->data;
  const TfLiteConvParams& params = Params(node);
  Padding::Kind padding;
  // With one scale for all TensorFlow Lite rounds the input in another way.
  const bool is_per_channel =
      scales->size == dims[0] && std::any_of(scales->data, scales->data + scales->size,
                                             [&](float s) { return s != scales->data[0]; });
  // A filter of fewer channels is one for groups of them.
  return is_per_channel && dims[1] == 1 && dims[2] == 1 && dims[3] == input->dims->data[3] &&
         dims[3] <= ByteShape::kMaxProducts && params.stride_height == 1 &&
         params.stride_width == 1 && ParsePadding(params.padding, &padding) &&
         (params.activation == kTfLiteActNone || params.activation == kTfLiteActRelu);
}

DynamicConvStep::DynamicConvStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                                 const Kernels& kernels)
    : Step(std::move(name), node),
      kernel_(*kernels.bytes),
      filter_(node.inputs->data[1]),
      bias_(node.inputs->data[2]),
      relu_(Params(node).activation == kTfLiteActRelu) {}

void DynamicConvStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  RequireType(Output(*context), {kTfLiteFloat32}, "output");
  RequireRank(input, 4, "input");
  const TfLiteTensor& filter = TensorAt(*context, filter_, "filter");
  RequireConstant(filter, "filter");
  const TfLiteTensor& bias = TensorAt(*context, bias_, "bias");
  RequireConstant(bias, "bias");
  const int channels_in = LastDim(filter);
  const int channels_out = filter.dims->data[0];
  if (LastDim(input) != channels_in) {
    Fail("filter: has %d input channels, the input has %d", channels_in, LastDim(input));
  }
  if (bias.dims->data[0] != channels_out) {
    Fail("bias: has %d elements, must have one for each of the %d output channels",
         bias.dims->data[0], channels_out);
  }
  const int* in = input.dims->data;
  images_ = in[0];
  pixels_ = Product(in[1], in[2], "pixels");
  shape_ = {1, channels_in, channels_in, channels_out};

  const auto* values = static_cast<const int8_t*>(filter.data);
  weights_ = MakeAligned<char>(kernel_.weight_bytes(shape_));
  kernel_.pack(shape_, values, weights_.get());
  const int padded = kernel_.padded_channels(channels_out);
  scales_ = MakeZeros<float>(padded);
  std::copy_n(FindScales(&filter)->data, channels_out, scales_.get());
  biases_ = MakeZeros<float>(padded);
  std::copy_n(ConstantFloats(bias).data(), channels_out, biases_.get());
  weight_sums_ = MakeZeros<int32_t>(padded);
  for (int o = 0; o < channels_out; ++o) {
    for (int c = 0; c < channels_in; ++c) {
      weight_sums_[o] += values[static_cast<size_t>(o) * channels_in + c];
    }
  }
  starts_ = MakeZeros<int32_t>(padded);
  ranges_ = MakeAligned<float>(2 * static_cast<size_t>(DivideUp(pixels_, kChunkPixels)));
  // The last group of values may end after the chunk.
  const size_t chunk_values = static_cast<size_t>(kChunkPixels) * channels_in + kernel_.group;
  thread_bytes_ = WholeCacheLines<char>(chunk_values * kernel_.value_bytes);
  memory_ = MakeZeros<char>(thread_bytes_ * pool.num_threads());
  Resize(context, ShapeWith(input, channels_out));
}

void DynamicConvStep::RunImage(const float* in, float* out, ThreadPool& pool) const {
  const int chunks = DivideUp(pixels_, kChunkPixels);
  const auto chunk_pixels = [&](int chunk) {
    return std::min(kChunkPixels, pixels_ - chunk * kChunkPixels);
  };
  const auto chunk_in = [&](int chunk) {
    return in + static_cast<size_t>(chunk) * kChunkPixels * shape_.depth;
  };
  const auto chunk_values = [&](int chunk) {
    return static_cast<size_t>(chunk_pixels(chunk)) * shape_.depth;
  };
  pool.ParallelFor(chunks, [&](int chunk, int) {
    float* range = ranges_.get() + 2 * static_cast<size_t>(chunk);
    range[0] = range[1] = 0.0f;
    kernel_.extend_range(chunk_in(chunk), chunk_values(chunk), &range[0], &range[1]);
  });
  float least = 0.0f;
  float greatest = 0.0f;
  kernel_.extend_range(ranges_.get(), 2 * static_cast<size_t>(chunks), &least, &greatest);
  const Quantization quantization = ChooseQuantization(least, greatest);
  // Values are 128 more than the integers.
  for (int o = 0; o < shape_.channels_out; ++o) {
    starts_[o] = -(quantization.zero + 128) * weight_sums_[o];
  }

  const ByteFinish finish = {starts_.get(), scales_.get(), quantization.scale, biases_.get(),
                             relu_};
  const float inverse_scale = 1.0f / quantization.scale;
  pool.ParallelFor(chunks, [&](int chunk, int thread) {
    char* values = memory_.get() + thread * thread_bytes_;
    kernel_.quantize(chunk_in(chunk), chunk_values(chunk), inverse_scale, quantization.zero,
                     values);
    const void* row = values;
    kernel_.multiply(shape_, weights_.get(), &row, chunk_pixels(chunk), finish,
                     out + static_cast<size_t>(chunk) * kChunkPixels * shape_.channels_out);
  });
}

void DynamicConvStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  for (int image = 0; image < images_; ++image) {
    const size_t first = static_cast<size_t>(image) * pixels_;
    RunImage(static_cast<const float*>(inputs[0]) + first * shape_.depth,
             static_cast<float*>(outputs[0]) + first * shape_.channels_out, pool);
  }
}

}  // namespace bireal
