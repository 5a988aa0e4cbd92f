#include "delegate/ops.h"

#include <cstring>
#include <utility>

#include "delegate/model.h"
#include "delegate/steps/add.h"
#include "delegate/steps/average_pool.h"
#include "delegate/steps/bconv.h"
#include "delegate/steps/channel_op.h"
#include "delegate/steps/concat.h"
#include "delegate/steps/conv.h"
#include "delegate/steps/dense.h"
#include "delegate/steps/depthwise.h"
#include "delegate/steps/dynamic_conv.h"
#include "delegate/steps/float_max_pool.h"
#include "delegate/steps/logistic.h"
#include "delegate/steps/max_pool.h"
#include "delegate/steps/quantize.h"
#include "delegate/steps/softmax.h"
#include "delegate/steps/split.h"

namespace bireal {
namespace {

bool Always(const TfLiteContext&, const Sources&, const TfLiteNode&) { return true; }

template <typename SomeStep>
bool Claims(const TfLiteContext& context, const Sources&, const TfLiteNode& node) {
  return SomeStep::Claims(context, node);
}

template <typename SomeStep>
std::unique_ptr<Step> Make(std::string name, const TfLiteContext& context, const Sources&,
                           const TfLiteNode& node, const Kernels& kernels) {
  return std::make_unique<SomeStep>(std::move(name), context, node, kernels);
}

// Of a step that reads through conversions.
template <typename SomeStep>
std::unique_ptr<Step> MakeOf(std::string name, const TfLiteContext& context, const Sources& sources,
                             const TfLiteNode& node, const Kernels& kernels) {
  return std::make_unique<SomeStep>(std::move(name), context, sources, node, kernels);
}

template <ChannelOp kOp>
bool ClaimsChannelOp(const TfLiteContext& context, const Sources&, const TfLiteNode& node) {
  return ChannelOpStep::Claims(context, node, kOp);
}

template <ChannelOp kOp>
std::unique_ptr<Step> MakeChannelOp(std::string name, const TfLiteContext& context, const Sources&,
                                    const TfLiteNode& node, const Kernels& kernels) {
  return std::make_unique<ChannelOpStep>(std::move(name), context, node, kernels, kOp);
}

// name, builtin code, inputs, outputs, follows, is_float, reads_through, claims, make
constexpr Op kOps[] = {
    {"LceQuantize", kTfLiteBuiltinCustom, 1, 1, false, false, false, Always, Make<QuantizeStep>},
    {"LceDequantize", kTfLiteBuiltinCustom, 1, 1, false, false, false, Always,
     Make<DequantizeStep>},
    {"LceBMaxPool2d", kTfLiteBuiltinCustom, 1, 1, false, false, false, Always, Make<MaxPoolStep>},
    {"LceBconv2d", kTfLiteBuiltinCustom, 5, 1, false, false, false, Always, Make<BconvStep>},
    {"ADD", kTfLiteBuiltinAdd, 2, 1, true, false, false, Claims<AddStep>, Make<AddStep>},
    {"CONV_2D", kTfLiteBuiltinConv2d, 3, 1, false, true, true, ConvStep::Claims, MakeOf<ConvStep>},
    {"MAX_POOL_2D", kTfLiteBuiltinMaxPool2d, 1, 1, true, true, false, Claims<FloatMaxPoolStep>,
     Make<FloatMaxPoolStep>},
    {"AVERAGE_POOL_2D", kTfLiteBuiltinAveragePool2d, 1, 1, true, true, false,
     Claims<AveragePoolStep>, Make<AveragePoolStep>},
    {"MEAN", kTfLiteBuiltinMean, 2, 1, true, true, false, Claims<MeanStep>, Make<MeanStep>},
    {"CONV_2D", kTfLiteBuiltinConv2d, 3, 1, true, true, true, PointwiseConvStep::Claims,
     MakeOf<PointwiseConvStep>},
    {"CONV_2D", kTfLiteBuiltinConv2d, 3, 1, true, true, false, Claims<DynamicConvStep>,
     Make<DynamicConvStep>},
    {"DEPTHWISE_CONV_2D", kTfLiteBuiltinDepthwiseConv2d, 3, 1, true, true, false,
     Claims<DepthwiseStep>, Make<DepthwiseStep>},
    {"FULLY_CONNECTED", kTfLiteBuiltinFullyConnected, 3, 1, true, true, true,
     FullyConnectedStep::Claims, MakeOf<FullyConnectedStep>},
    {"SOFTMAX", kTfLiteBuiltinSoftmax, 1, 1, true, true, false, Claims<SoftmaxStep>,
     Make<SoftmaxStep>},
    {"CONCATENATION", kTfLiteBuiltinConcatenation, 2, 1, true, true, false, Claims<ConcatStep>,
     Make<ConcatStep>},
    {"SPLIT_V", kTfLiteBuiltinSplitV, 3, 2, true, true, false, Claims<SplitStep>, Make<SplitStep>},
    {"LOGISTIC", kTfLiteBuiltinLogistic, 1, 1, true, true, false, Claims<LogisticStep>,
     Make<LogisticStep>},
    {"ADD", kTfLiteBuiltinAdd, 2, 1, true, true, false, ClaimsChannelOp<ChannelOp::kAdd>,
     MakeChannelOp<ChannelOp::kAdd>},
    {"MUL", kTfLiteBuiltinMul, 2, 1, true, true, false, ClaimsChannelOp<ChannelOp::kMultiply>,
     MakeChannelOp<ChannelOp::kMultiply>},
    {"PRELU", kTfLiteBuiltinPrelu, 2, 1, true, true, false, ClaimsChannelOp<ChannelOp::kPrelu>,
     MakeChannelOp<ChannelOp::kPrelu>},
};

void RequireCounts(const TfLiteNode& node, int inputs, int outputs) {
  const int received_inputs = node.inputs ? node.inputs->size : 0;
  const int received_outputs = node.outputs ? node.outputs->size : 0;
  if (received_inputs != inputs || received_outputs != outputs) {
    Fail("must have %d inputs and %d outputs. Received: %d and %d", inputs, outputs,
         received_inputs, received_outputs);
  }
}

}  // namespace

const Op* FindOp(const TfLiteContext& context, const Sources& sources, const TfLiteNode& node,
                 const TfLiteRegistration& registration) {
  for (const Op& op : kOps) {
    if (registration.builtin_code != op.builtin_code) continue;
    const bool is_custom = op.builtin_code == kTfLiteBuiltinCustom;
    const bool is_named = !is_custom || (registration.custom_name != nullptr &&
                                         std::strcmp(registration.custom_name, op.name) == 0);
    if (is_named && op.claims(context, sources, node)) return &op;
  }
  return nullptr;
}

std::unique_ptr<Step> MakeStep(const TfLiteContext& context, const Sources& sources, int index,
                               const TfLiteNode& node, const TfLiteRegistration& registration,
                               const Kernels& kernels) {
  const Op* op = FindOp(context, sources, node, registration);
  if (op == nullptr) Fail("node %d is not an op of the delegate's", index);
  std::string name;
  for (int i = 0; node.inputs != nullptr && i < node.inputs->size; ++i) {
    name += sources.NameOf(node.inputs->data[i]);
  }
  name += std::string(op->name) + " (node " + std::to_string(index) + ")";
  std::unique_ptr<Step> step;
  Named(name, [&] {
    RequireCounts(node, op->inputs, op->outputs);
    TensorAt(context, node.inputs->data[0], "input");
    for (int i = 0; i < op->outputs; ++i) TensorAt(context, node.outputs->data[i], "output");
    step = op->make(name, context, sources, node, kernels);
  });
  return step;
}

}  // namespace bireal
