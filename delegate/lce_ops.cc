#include "delegate/lce_ops.h"

#include <cstring>

#include "delegate/model.h"
#include "delegate/steps/add.h"
#include "delegate/steps/bconv.h"
#include "delegate/steps/max_pool.h"
#include "delegate/steps/quantize.h"

namespace bireal {
namespace {

void RequireCounts(const TfLiteNode& node, int inputs, int outputs) {
  const int received_inputs = node.inputs ? node.inputs->size : 0;
  const int received_outputs = node.outputs ? node.outputs->size : 0;
  if (received_inputs != inputs || received_outputs != outputs) {
    Fail("must have %d inputs and %d output. Received: %d and %d", inputs, outputs, received_inputs,
         received_outputs);
  }
}

const TfLiteTensor* FloatTensor(const TfLiteContext& context, int index) {
  if (index < 0 || static_cast<size_t>(index) >= context.tensors_size) return nullptr;
  const TfLiteTensor& tensor = context.tensors[index];
  return tensor.type == kTfLiteFloat32 ? &tensor : nullptr;
}

}  // namespace

bool IsLceOp(const TfLiteRegistration& registration) {
  if (registration.builtin_code != kTfLiteBuiltinCustom || registration.custom_name == nullptr) {
    return false;
  }
  for (const char* op : {"LceQuantize", "LceDequantize", "LceBMaxPool2d", "LceBconv2d"}) {
    if (std::strcmp(registration.custom_name, op) == 0) return true;
  }
  return false;
}

bool IsSimpleAdd(const TfLiteContext& context, const TfLiteNode& node,
                 const TfLiteRegistration& registration) {
  if (registration.builtin_code != kTfLiteBuiltinAdd || node.builtin_data == nullptr ||
      node.inputs == nullptr || node.inputs->size != 2 || node.outputs == nullptr ||
      node.outputs->size != 1) {
    return false;
  }
  const int activation = static_cast<const TfLiteAddParams*>(node.builtin_data)->activation;
  const TfLiteTensor* a = FloatTensor(context, node.inputs->data[0]);
  const TfLiteTensor* b = FloatTensor(context, node.inputs->data[1]);
  const TfLiteTensor* sum = FloatTensor(context, node.outputs->data[0]);
  if (a == nullptr || b == nullptr || sum == nullptr) return false;
  // A constant keeps its shape when the batch is resized: from then on the sum broadcasts it.
  const bool has_constant =
      a->allocation_type == kTfLiteMmapRo || b->allocation_type == kTfLiteMmapRo;
  return !has_constant && SameShape(*a, *b) && a->dims->size > 0 &&
         (activation == kTfLiteActNone || activation == kTfLiteActRelu);
}

std::unique_ptr<Step> MakeStep(const TfLiteContext& context, int index, const TfLiteNode& node,
                               const TfLiteRegistration& registration, const Kernels& kernels) {
  const bool is_add = registration.builtin_code == kTfLiteBuiltinAdd;
  const char* op = is_add ? "ADD" : registration.custom_name;
  const std::string name = std::string(op) + " (node " + std::to_string(index) + ")";
  std::unique_ptr<Step> step;
  Named(name, [&] {
    const bool is_bconv = std::strcmp(op, "LceBconv2d") == 0;
    RequireCounts(node, is_add ? 2 : is_bconv ? 5 : 1, 1);
    const int input = node.inputs->data[0];
    const int output = node.outputs->data[0];
    TensorAt(context, input, "input");
    TensorAt(context, output, "output");
    if (is_add) {
      const auto& params = *static_cast<const TfLiteAddParams*>(node.builtin_data);
      step = std::make_unique<AddStep>(name, input, node.inputs->data[1], output,
                                       params.activation == kTfLiteActRelu, kernels);
    } else if (is_bconv) {
      step = std::make_unique<BconvStep>(name, node, ParseOptions(node), kernels);
    } else if (std::strcmp(op, "LceBMaxPool2d") == 0) {
      step = std::make_unique<MaxPoolStep>(name, input, output, ParseOptions(node));
    } else if (std::strcmp(op, "LceQuantize") == 0) {
      step = std::make_unique<QuantizeStep>(name, input, output, kernels);
    } else {
      step = std::make_unique<DequantizeStep>(name, input, output);
    }
  });
  return step;
}

}  // namespace bireal
