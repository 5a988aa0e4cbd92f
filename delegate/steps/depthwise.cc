#include "delegate/steps/depthwise.h"

#include <algorithm>
#include <utility>

namespace bireal {
namespace {

const TfLiteDepthwiseConvParams& Params(const TfLiteNode& node) {
  return *static_cast<const TfLiteDepthwiseConvParams*>(node.builtin_data);
}

}  // namespace

bool DepthwiseStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 3 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const TfLiteTensor* input = FindFloat(context, node.inputs->data[0]);
  const TfLiteTensor* filter = FindFloat(context, node.inputs->data[1]);
  if (input == nullptr || input->dims == nullptr || input->dims->size != 4 ||
      !IsConstant(filter, 4) || !IsConstant(FindFloat(context, node.inputs->data[2]), 1) ||
      FindFloat(context, node.outputs->data[0]) == nullptr) {
    return false;
  }
  const TfLiteDepthwiseConvParams& params = Params(node);
  Padding::Kind padding;
  return filter->dims->data[0] == 1 && filter->dims->data[3] == input->dims->data[3] &&
         params.stride_height >= 1 && params.stride_width >= 1 &&
         params.dilation_height_factor == 1 && params.dilation_width_factor == 1 &&
         ParsePadding(params.padding, &padding) &&
         (params.activation == kTfLiteActNone || params.activation == kTfLiteActRelu);
}

DepthwiseStep::DepthwiseStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                             const Kernels& kernels)
    : RowStep(std::move(name), node, kernels),
      kernel_(*kernels.float_ops),
      filter_(node.inputs->data[1]),
      bias_(node.inputs->data[2]) {
  const TfLiteDepthwiseConvParams& params = Params(node);
  ParsePadding(params.padding, &padding_);
  window_.stride_h = params.stride_height;
  window_.stride_w = params.stride_width;
  window_.dilation_h = window_.dilation_w = 1;
  if (params.activation == kTfLiteActRelu) tail_.Append(ChannelOp::kRelu, -1);
}

void DepthwiseStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  RequireRank(input, 4, "input");
  const TfLiteTensor& filter = TensorAt(*context, filter_, "filter");
  RequireConstant(filter, "filter");
  RequireRank(filter, 4, "filter");
  const TfLiteTensor& bias = TensorAt(*context, bias_, "bias");
  RequireConstant(bias, "bias");
  RequireRank(bias, 1, "bias");
  channels_ = LastDim(input);
  if (LastDim(filter) != channels_ || LastDim(bias) != channels_ || filter.dims->data[0] != 1) {
    Fail("filter and bias: have %d and %d channels, the input has %d", LastDim(filter),
         LastDim(bias), channels_);
  }
  const int* in = input.dims->data;
  window_.in_h = in[1];
  window_.in_w = in[2];
  window_.filter_h = filter.dims->data[1];
  window_.filter_w = filter.dims->data[2];
  ResolveWindow(padding_, &window_);
  rows_ = Product(in[0], window_.out_h, "output rows");
  const size_t filter_floats = filter.bytes / sizeof(float);
  weights_ = MakeAligned<float>(filter_floats + channels_);
  std::copy_n(ConstantFloats(filter).data(), filter_floats, weights_.get());
  std::copy_n(ConstantFloats(bias).data(), channels_, weights_.get() + filter_floats);
  ResolveOutputs(context, pool, {in[0], window_.out_h, window_.out_w, channels_}, in[0]);
}

void DepthwiseStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const size_t image = static_cast<size_t>(window_.in_h) * window_.in_w * channels_;
  const size_t row_pixels = window_.out_w;
  auto* const signs = tail_.packs() ? static_cast<uint32_t*>(outputs[1]) : nullptr;
  pool.ParallelFor(rows_, [&](int row, int thread) {
    float* out = static_cast<float*>(outputs[0]) + row * row_pixels * channels_;
    kernel_.depthwise_row(window_, channels_,
                          static_cast<const float*>(inputs[0]) + row / window_.out_h * image,
                          row % window_.out_h, weights_.get(), out);
    tail_.Run(nullptr, 0, thread, out, channels_, row_pixels, out,
              signs != nullptr ? signs + row * row_pixels * WordsFor(channels_) : nullptr);
  });
}

}  // namespace bireal
