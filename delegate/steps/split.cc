#include "delegate/steps/split.h"

#include <cstring>
#include <utility>

#include "delegate/model.h"

namespace bireal {
namespace {

// The `count` numbers of a constant; returns whether it is one, and has so many.
bool ReadInts(const TfLiteContext& context, int tensor, int32_t* values, size_t count) {
  if (tensor < 0 || static_cast<size_t>(tensor) >= context.tensors_size) return false;
  const TfLiteTensor& constant = context.tensors[tensor];
  if (constant.type != kTfLiteInt32 || constant.allocation_type != kTfLiteMmapRo ||
      constant.data == nullptr || constant.bytes != count * sizeof(int32_t)) {
    return false;
  }
  std::memcpy(values, constant.data, constant.bytes);
  return true;
}

}  // namespace

bool SplitStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.inputs == nullptr || node.inputs->size != 3 || node.outputs == nullptr ||
      node.outputs->size != 2) {
    return false;
  }
  const TfLiteTensor* input = FindFloat(context, node.inputs->data[0]);
  int32_t sizes[2];
  int32_t axis;
  if (input == nullptr || input->allocation_type == kTfLiteMmapRo || input->dims == nullptr ||
      input->dims->size < 1 || FindFloat(context, node.outputs->data[0]) == nullptr ||
      FindFloat(context, node.outputs->data[1]) == nullptr ||
      !ReadInts(context, node.inputs->data[1], sizes, 2) ||
      !ReadInts(context, node.inputs->data[2], &axis, 1)) {
    return false;
  }
  return (axis == -1 || axis == input->dims->size - 1) && sizes[0] >= 1 && sizes[1] >= 1;
}

SplitStep::SplitStep(std::string name, const TfLiteContext&, const TfLiteNode& node, const Kernels&)
    : Step(std::move(name), node), sizes_(node.inputs->data[1]) {
  AddOutput(node.outputs->data[1]);
}

void SplitStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  int32_t sizes[2];
  int sum = 0;
  if (!ReadInts(*context, sizes_, sizes, 2) || sizes[0] < 1 || sizes[1] < 1 ||
      __builtin_add_overflow(sizes[0], sizes[1], &sum) || sum != LastDim(input)) {
    Fail("sizes: must be two numbers whose sum are the input's %d channels", LastDim(input));
  }
  rows_ = RowCount(input);
  for (int i : {0, 1}) {
    channels_[i] = sizes[i];
    RequireType(Output(*context, i), {kTfLiteFloat32}, "output");
    Resize(context, ShapeWith(input, sizes[i]), i);
  }
}

void SplitStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  ForRows(pool, rows_, [&](size_t begin, size_t rows, int) {
    const size_t channels = static_cast<size_t>(channels_[0]) + channels_[1];
    const auto* in = static_cast<const float*>(inputs[0]) + begin * channels;
    auto* a = static_cast<float*>(outputs[0]) + begin * channels_[0];
    auto* b = static_cast<float*>(outputs[1]) + begin * channels_[1];
    for (size_t row = 0; row < rows; ++row) {
      std::memcpy(a, in, channels_[0] * sizeof(float));
      std::memcpy(b, in + channels_[0], channels_[1] * sizeof(float));
      in += channels;
      a += channels_[0];
      b += channels_[1];
    }
  });
}

}  // namespace bireal
