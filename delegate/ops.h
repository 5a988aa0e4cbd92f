// The ops that the delegate can take over. One more op is a step in steps/ and a line in the table
// of ops.cc.
#ifndef BIREAL_DELEGATE_OPS_H_
#define BIREAL_DELEGATE_OPS_H_

#include <memory>
#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/sources.h"
#include "delegate/step.h"
#include "delegate/tflite_abi.h"

namespace bireal {

struct Op {
  const char* name;      // In messages, and in a model file if the op is a custom one.
  int32_t builtin_code;  // kTfLiteBuiltinCustom for those of LCE.
  int inputs;            // How many it has.
  int outputs;           // Likewise.
  // Whether the op is taken over only where it reads what the delegate computes. Then it is in the
  // same turn, so that the two can become one step.
  bool follows;
  // Whether it is one of the interpreter's float operators, which is taken over where that is
  // faster or asked for.
  bool is_float;
  // Whether the step reads through the conversions of its inputs, see `Sources`.
  bool reads_through;
  // Whether the step can do what this node of that builtin code asks for, if it reads through the
  // conversions of `sources`. An op that no interpreter has is always claimed: MakeStep says what
  // is wrong with it.
  bool (*claims)(const TfLiteContext& context, const Sources& sources, const TfLiteNode& node);
  // The node has as many inputs and outputs as above. Throws ModelError when its options are
  // malformed.
  std::unique_ptr<Step> (*make)(std::string name, const TfLiteContext& context,
                                const Sources& sources, const TfLiteNode& node,
                                const Kernels& kernels);
};

// The op that claims the node, or null when the delegate has no step for it.
const Op* FindOp(const TfLiteContext& context, const Sources& sources, const TfLiteNode& node,
                 const TfLiteRegistration& registration);

// The step for node `index`, which was claimed. Throws ModelError when its options or its lists of
// inputs and outputs are malformed.
std::unique_ptr<Step> MakeStep(const TfLiteContext& context, const Sources& sources, int index,
                               const TfLiteNode& node, const TfLiteRegistration& registration,
                               const Kernels& kernels);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_OPS_H_
