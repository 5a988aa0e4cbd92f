// From the nodes of a graph to steps.
#ifndef BIREAL_DELEGATE_LCE_OPS_H_
#define BIREAL_DELEGATE_LCE_OPS_H_

#include <memory>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"
#include "delegate/tflite_abi.h"

namespace bireal {

bool IsLceOp(const TfLiteRegistration& registration);

// Whether the node is an ADD that AddStep does: two float activations of one shape, RELU or no
// activation function.
bool IsSimpleAdd(const TfLiteContext& context, const TfLiteNode& node,
                 const TfLiteRegistration& registration);

// The step for node `index`, an LCE op or a simple ADD. Throws ModelError when its options or its
// lists of inputs and outputs are malformed.
std::unique_ptr<Step> MakeStep(const TfLiteContext& context, int index, const TfLiteNode& node,
                               const TfLiteRegistration& registration, const Kernels& kernels);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_LCE_OPS_H_
