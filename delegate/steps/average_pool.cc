#include "delegate/steps/average_pool.h"

#include <cstdint>
#include <cstring>
#include <utility>

#include "delegate/model.h"
#include "delegate/steps/float_max_pool.h"

namespace bireal {
namespace {

const TfLitePoolParams& PoolParams(const TfLiteNode& node) {
  return *static_cast<const TfLitePoolParams*>(node.builtin_data);
}

// Whether the node reads floats of rank 4, the first of `inputs` tensors, and writes floats.
bool PoolsFloats(const TfLiteContext& context, const TfLiteNode& node, int inputs) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != inputs ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const TfLiteTensor* input = FindFloat(context, node.inputs->data[0]);
  return input != nullptr && input->dims != nullptr && input->dims->size == 4 &&
         FindFloat(context, node.outputs->data[0]) != nullptr;
}

// Whether the constant names the axes 1 and 2 of an image (batch, height, width, channels).
bool AreHeightAndWidth(const TfLiteContext& context, int tensor) {
  if (tensor < 0 || static_cast<size_t>(tensor) >= context.tensors_size) return false;
  const TfLiteTensor& axes = context.tensors[tensor];
  int32_t values[2];
  if (axes.type != kTfLiteInt32 || !IsConstant(&axes, 1) || axes.bytes != sizeof(values)) {
    return false;
  }
  std::memcpy(values, axes.data, sizeof(values));
  for (int32_t& value : values) value += value < 0 ? 4 : 0;
  return (values[0] == 1 && values[1] == 2) || (values[0] == 2 && values[1] == 1);
}

}  // namespace

bool AveragePoolStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (!PoolsFloats(context, node, 1)) return false;
  const TfLitePoolParams& params = PoolParams(node);
  Padding::Kind padding;
  return ParsePadding(params.padding, &padding) && params.activation == kTfLiteActNone &&
         params.filter_height >= 1 && params.filter_width >= 1 && params.stride_height >= 1 &&
         params.stride_width >= 1;
}

AveragePoolStep::AveragePoolStep(std::string name, const TfLiteNode& node, const Kernels& kernels)
    : Step(std::move(name), node), kernel_(*kernels.float_ops) {}

AveragePoolStep::AveragePoolStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                                 const Kernels& kernels)
    : AveragePoolStep(std::move(name), node, kernels) {
  const TfLitePoolParams& params = PoolParams(node);
  ParsePadding(params.padding, &filter_.padding);
  filter_.height = params.filter_height;
  filter_.width = params.filter_width;
  filter_.stride_h = params.stride_height;
  filter_.stride_w = params.stride_width;
}

const int* AveragePoolStep::InputDims(const TfLiteContext& context) const {
  RequireType(Input(context), {kTfLiteFloat32}, "input");
  RequireType(Output(context), {kTfLiteFloat32}, "output");
  RequireRank(Input(context), 4, "input");
  return Input(context).dims->data;
}

std::vector<int> AveragePoolStep::ResolveOutput(const int* in) {
  window_ = ResolvePool(filter_, in[1], in[2]);
  channels_ = in[3];
  rows_ = Product(in[0], window_.out_h, "output rows");
  return {in[0], window_.out_h, window_.out_w, channels_};
}

void AveragePoolStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  Resize(context, ResolveOutput(InputDims(*context)));
}

void AveragePoolStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const size_t image = static_cast<size_t>(window_.in_h) * window_.in_w * channels_;
  const size_t out_row = static_cast<size_t>(window_.out_w) * channels_;
  pool.ParallelFor(rows_, [&](int row, int) {
    kernel_.average_row(window_, channels_, {nullptr, nullptr}, 0.0f,
                        static_cast<const float*>(inputs[0]) + row / window_.out_h * image,
                        row % window_.out_h, static_cast<float*>(outputs[0]) + row * out_row);
  });
}

bool MeanStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  return PoolsFloats(context, node, 2) && AreHeightAndWidth(context, node.inputs->data[1]);
}

MeanStep::MeanStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                   const Kernels& kernels)
    : AveragePoolStep(std::move(name), node, kernels),
      keeps_rank_(static_cast<const TfLiteReducerParams*>(node.builtin_data)->keep_dims) {}

bool MeanStep::ReadThrough(const Step& before) {
  ChannelOps ops = *before.epilogue()->ops;
  ops.Append(ops_, 0);
  if (!ops.is_scale()) return false;
  ops_ = std::move(ops);
  ReplaceInput(before.inputs()[0].tensor);
  return true;
}

void MeanStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const int* in = InputDims(*context);
  if (!ops_.empty()) {
    ops_.Resolve(*context, in[0], in[3]);
    factors_ = ops_.Constants(ChannelOp::kMultiply, 1.0f);
    summands_ = ops_.Constants(ChannelOp::kAdd, 0.0f);
  }
  filter_ = {Padding::kValid, in[1], in[2], 1, 1};
  std::vector<int> dims = ResolveOutput(in);
  if (!keeps_rank_) dims = {dims[0], dims[3]};
  const size_t in_rows = Product(in[0], in[1], "input rows");
  sums_ = pool.num_threads() > 1 ? MakeAligned<float>(in_rows * channels_) : nullptr;
  Resize(context, dims);
}

void MeanStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const ChannelScale scale = {factors_.empty() ? nullptr : factors_.data(), summands_.data()};
  const auto* in = static_cast<const float*>(inputs[0]);
  auto* out = static_cast<float*>(outputs[0]);
  const size_t in_row = static_cast<size_t>(window_.in_w) * channels_;
  const int images = rows_;
  Window of_sums = window_;
  if (sums_ != nullptr) {
    // A thread adds up the rows that its cache may hold. The sums of rows are those that one thread
    // has, and are added in the same order.
    Window row = window_;
    row.in_h = row.filter_h = 1;
    pool.ParallelFor(images * window_.in_h, [&](int index, int) {
      kernel_.average_row(row, channels_, scale, 1.0f, in + index * in_row, 0,
                          sums_.get() + static_cast<size_t>(index) * channels_);
    });
    of_sums.in_w = of_sums.filter_w = 1;
    in = sums_.get();
  }
  const float share = 1.0f / (static_cast<float>(window_.in_h) * window_.in_w);
  const size_t image = static_cast<size_t>(of_sums.in_h) * of_sums.in_w * channels_;
  for (int i = 0; i < images; ++i) {
    kernel_.average_row(of_sums, channels_, sums_ != nullptr ? ChannelScale{} : scale, share,
                        in + i * image, 0, out + static_cast<size_t>(i) * channels_);
  }
}

}  // namespace bireal
