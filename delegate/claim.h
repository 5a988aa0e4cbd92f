// Which nodes of the model's graph the delegate takes over, and in what order.
#ifndef BIREAL_DELEGATE_CLAIM_H_
#define BIREAL_DELEGATE_CLAIM_H_

#include <vector>

#include "delegate/tflite_abi.h"

namespace bireal {

struct PlannedNode {
  int index;
  TfLiteNode* node;
  TfLiteRegistration* registration;
};

// The nodes in the order in which the interpreter runs them. Throws ModelError.
std::vector<PlannedNode> ExecutionPlan(TfLiteContext* context);

// The indices of the nodes that the delegate's ops claim, in turns. What the interpreter runs
// itself lies between two turns, never inside of one. So a turn can be one partition, if the
// interpreter is asked for it alone.
//
// Float operators of `Op::is_float` are claimed only if `claims_float`, and never in a model
// without 1-bit layers, such as a float twin that a network is compared with.
//
// A convolution belongs to the turn of the ADD that reads it, so that the two can be one step.
// In Bi-Real Net that is the first convolution of a stage, which waits for the interpreter's
// down-sampling of the shortcut.
//
// In the first turn are also the conversions that a step reads through, see `Sources`.
//
// Throws ModelError where a node reads what a later one writes.
std::vector<std::vector<int>> ClaimedTurns(const TfLiteContext& context,
                                           const std::vector<PlannedNode>& plan, bool claims_float);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_CLAIM_H_
