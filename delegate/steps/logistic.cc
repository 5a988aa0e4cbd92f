#include "delegate/steps/logistic.h"

#include <utility>

#include "delegate/model.h"

namespace bireal {

bool LogisticStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  return node.inputs != nullptr && node.inputs->size == 1 && node.outputs != nullptr &&
         node.outputs->size == 1 && FindFloat(context, node.inputs->data[0]) != nullptr &&
         FindFloat(context, node.outputs->data[0]) != nullptr;
}

LogisticStep::LogisticStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                           const Kernels& kernels)
    : Step(std::move(name), node), kernel_(*kernels.float_ops) {}

void LogisticStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  RequireType(Output(*context), {kTfLiteFloat32}, "output");
  rows_ = RowCount(input);
  channels_ = LastDim(input);
  Resize(context, ShapeWith(input, channels_));
}

void LogisticStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  ForRows(pool, rows_, [&](size_t begin, size_t rows, int) {
    for (size_t row = begin; row < begin + rows; ++row) {
      kernel_.logistic(static_cast<const float*>(inputs[0]) + row * channels_, channels_,
                       static_cast<float*>(outputs[0]) + row * channels_);
    }
  });
}

}  // namespace bireal
