#include "delegate/steps/max_pool.h"

#include "delegate/kernels/max_pool.h"

namespace bireal {

MaxPoolStep::MaxPoolStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                         const Kernels&)
    : Step(std::move(name), node) {
  const FlexMap options = ParseOptions(node);
  window_.filter_h = Option(options, "filter_height", 1, INT32_MAX);
  window_.filter_w = Option(options, "filter_width", 1, INT32_MAX);
  window_.stride_h = Option(options, "stride_height", 1, INT32_MAX);
  window_.stride_w = Option(options, "stride_width", 1, INT32_MAX);
  window_.dilation_h = window_.dilation_w = 1;
  padding_ = static_cast<Padding::Kind>(Option(options, "padding", 0, 1));
}

void MaxPoolStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteInt32}, "input");
  RequireType(Output(*context), {kTfLiteInt32}, "output");
  RequireRank(input, 4, "input");
  const int* dims = input.dims->data;
  window_.in_h = dims[1];
  window_.in_w = dims[2];
  words_ = dims[3];
  ResolveWindow(padding_, &window_);
  rows_ = Product(dims[0], window_.out_h, "output rows");
  Resize(context, {dims[0], window_.out_h, window_.out_w, words_});
}

void MaxPoolStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const auto* in = static_cast<const uint32_t*>(inputs[0]);
  auto* out = static_cast<uint32_t*>(outputs[0]);
  const size_t in_image = static_cast<size_t>(window_.in_h) * window_.in_w * words_;
  const size_t out_row = static_cast<size_t>(window_.out_w) * words_;
  pool.ParallelFor(rows_, [&](int row, int) {
    MaxPoolPacked(window_, words_, in + row / window_.out_h * in_image, row % window_.out_h,
                  out + row * out_row);
  });
}

}  // namespace bireal
