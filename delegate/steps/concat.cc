#include "delegate/steps/concat.h"

#include <cstring>
#include <utility>
#include <vector>

#include "delegate/model.h"

namespace bireal {
namespace {

bool IsMap(const TfLiteTensor* tensor) {
  return tensor != nullptr && tensor->allocation_type != kTfLiteMmapRo && tensor->dims != nullptr;
}

}  // namespace

bool ConcatStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 2 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const TfLiteTensor* a = FindFloat(context, node.inputs->data[0]);
  const TfLiteTensor* b = FindFloat(context, node.inputs->data[1]);
  if (!IsMap(a) || !IsMap(b) || FindFloat(context, node.outputs->data[0]) == nullptr) return false;
  const int rank = a->dims->size;
  const auto& params = *static_cast<const TfLiteConcatenationParams*>(node.builtin_data);
  return rank >= 1 && b->dims->size == rank && (params.axis == rank - 1 || params.axis == -1) &&
         params.activation == kTfLiteActNone;
}

ConcatStep::ConcatStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                       const Kernels& kernels)
    : RowStep(std::move(name), node, kernels),
      epilogue_{Epilogue::kConcat, false, {}, nullptr, &tail_},
      axis_(static_cast<const TfLiteConcatenationParams*>(node.builtin_data)->axis) {
  AddInput(node.inputs->data[1]);
}

void ConcatStep::Concatenate(const float* a, int a_channels, size_t a_stride, const float* b,
                             int b_channels, size_t pixels, float* out, size_t out_stride) {
  for (size_t pixel = 0; pixel < pixels; ++pixel) {
    if (a != nullptr) std::memcpy(out, a, a_channels * sizeof(float));
    std::memcpy(out + a_channels, b, b_channels * sizeof(float));
    if (a != nullptr) a += a_stride;
    b += b_channels;
    out += out_stride;
  }
}

void ConcatStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& a = Input(*context, 0);
  const TfLiteTensor& b = Input(*context, 1);
  RequireType(a, {kTfLiteFloat32}, "first input");
  RequireType(b, {kTfLiteFloat32}, "second input");
  RequireLastAxis(a, axis_);
  a_channels_ = LastDim(a);
  b_channels_ = LastDim(b);
  int channels = 0;
  if (ShapeWith(a, 1) != ShapeWith(b, 1) ||
      __builtin_add_overflow(a_channels_, b_channels_, &channels)) {
    Fail("inputs: must differ in their last dimensions only. Received: %d and %d in the last",
         a_channels_, b_channels_);
  }
  rows_ = RowCount(a);
  ResolveOutputs(context, pool, ShapeWith(a, channels), 1);
}

void ConcatStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const int channels = a_channels_ + b_channels_;
  ForRows(pool, rows_, [&](size_t begin, size_t rows, int thread) {
    float* out = static_cast<float*>(outputs[0]) + begin * channels;
    Concatenate(static_cast<const float*>(inputs[0]) + begin * a_channels_, a_channels_,
                a_channels_, static_cast<const float*>(inputs[1]) + begin * b_channels_,
                b_channels_, rows, out, channels);
    auto* signs =
        tail_.packs() ? static_cast<uint32_t*>(outputs[1]) + begin * WordsFor(channels) : nullptr;
    tail_.Run(nullptr, 0, thread, out, channels, rows, out, signs);
  });
}

}  // namespace bireal
