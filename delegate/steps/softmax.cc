#include "delegate/steps/softmax.h"

#include <cmath>
#include <utility>

#include "delegate/model.h"

namespace bireal {
namespace {

float Beta(const TfLiteNode& node) {
  return static_cast<const TfLiteSoftmaxParams*>(node.builtin_data)->beta;
}

}  // namespace

bool SoftmaxStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 1 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  return FindFloat(context, node.inputs->data[0]) != nullptr &&
         FindFloat(context, node.outputs->data[0]) != nullptr && std::isfinite(Beta(node)) &&
         Beta(node) > 0;
}

SoftmaxStep::SoftmaxStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                         const Kernels& kernels)
    : Step(std::move(name), node), kernel_(*kernels.float_ops), beta_(Beta(node)) {}

void SoftmaxStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  RequireType(Output(*context), {kTfLiteFloat32}, "output");
  rows_ = RowCount(input);
  classes_ = LastDim(input);
  Resize(context, ShapeWith(input, classes_));
}

// There are a thousand values, which are not worth a thread.
void SoftmaxStep::Run(const void* const* inputs, void* const* outputs, ThreadPool&) const {
  for (size_t row = 0; row < rows_; ++row) {
    const size_t first = row * classes_;
    kernel_.softmax(static_cast<const float*>(inputs[0]) + first, classes_, beta_,
                    static_cast<float*>(outputs[0]) + first);
  }
}

}  // namespace bireal
