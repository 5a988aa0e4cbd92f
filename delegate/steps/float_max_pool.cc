#include "delegate/steps/float_max_pool.h"

#include "delegate/kernels/taps.h"
#include "delegate/model.h"

namespace bireal {
namespace {

constexpr int kMaxFilter = 3;

const TfLitePoolParams& Params(const TfLiteNode& node) {
  return *static_cast<const TfLitePoolParams*>(node.builtin_data);
}

bool InRange(int value, int min, int max) { return value >= min && value <= max; }

}  // namespace

Window ResolvePool(const PoolFilter& filter, int height, int width) {
  Window window = {};
  window.in_h = height;
  window.in_w = width;
  window.filter_h = filter.height;
  window.filter_w = filter.width;
  window.stride_h = filter.stride_h;
  window.stride_w = filter.stride_w;
  window.dilation_h = window.dilation_w = 1;
  ResolveWindow(filter.padding, &window);
  return window;
}

bool FloatMaxPoolStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 1 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const TfLiteTensor* input = FindFloat(context, node.inputs->data[0]);
  if (input == nullptr || FindFloat(context, node.outputs->data[0]) == nullptr ||
      input->dims == nullptr || input->dims->size != 4) {
    return false;
  }
  const TfLitePoolParams& params = Params(node);
  Padding::Kind padding;
  return ParsePadding(params.padding, &padding) &&
         (params.activation == kTfLiteActNone || params.activation == kTfLiteActRelu) &&
         InRange(params.filter_height, 2, kMaxFilter) &&
         InRange(params.filter_width, 2, kMaxFilter) &&
         InRange(params.stride_height, 1, kMaxFilter) &&
         InRange(params.stride_width, 1, kMaxFilter);
}

FloatMaxPoolStep::FloatMaxPoolStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                                   const Kernels& kernels)
    : Step(std::move(name), node),
      kernel_(*kernels.float_ops),
      relu_(Params(node).activation == kTfLiteActRelu) {
  const TfLitePoolParams& params = Params(node);
  epilogue_.kind = Epilogue::kMaxPool;
  ParsePadding(params.padding, &epilogue_.pool.padding);
  epilogue_.pool.height = params.filter_height;
  epilogue_.pool.width = params.filter_width;
  epilogue_.pool.stride_h = params.stride_height;
  epilogue_.pool.stride_w = params.stride_width;
}

void FloatMaxPoolStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  RequireType(Output(*context), {kTfLiteFloat32}, "output");
  RequireRank(input, 4, "input");
  const int* in = input.dims->data;
  window_ = ResolvePool(epilogue_.pool, in[1], in[2]);
  channels_ = in[3];
  rows_ = Product(in[0], window_.out_h, "output rows");
  Resize(context, {in[0], window_.out_h, window_.out_w, channels_});
}

void FloatMaxPoolStep::Run(const void* const* inputs, void* const* outputs,
                           ThreadPool& pool) const {
  const size_t in_row = static_cast<size_t>(window_.in_w) * channels_;
  const size_t out_row = static_cast<size_t>(window_.out_w) * channels_;
  pool.ParallelFor(rows_, [&](int row, int) {
    const size_t image_rows = static_cast<size_t>(row / window_.out_h) * window_.in_h;
    const auto* image = static_cast<const float*>(inputs[0]) + image_rows * in_row;
    const int out_y = row % window_.out_h;
    const Taps inside = RowsInside(window_, out_y);
    const float* rows[kMaxFilter];
    for (int fy = inside.begin; fy < inside.end; ++fy) {
      const ptrdiff_t y = out_y * window_.stride_h - window_.pad_top + fy;
      rows[fy - inside.begin] = image + y * in_row;
    }
    float* const out = static_cast<float*>(outputs[0]) + row * out_row;
    kernel_.max_row(window_, channels_, rows, inside.count(), out);
    if (relu_)
      kernel_.channel_op(ChannelOp::kRelu, out, channels_, window_.out_w, channels_, nullptr, 0,
                         out);
  });
}

}  // namespace bireal
