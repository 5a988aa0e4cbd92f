// One step of a partition: an op of the model, ready to run, with its options parsed, its shapes
// checked and its weights laid out.
#ifndef BIREAL_DELEGATE_STEP_H_
#define BIREAL_DELEGATE_STEP_H_

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "delegate/model.h"
#include "delegate/tflite_abi.h"
#include "delegate/thread_pool.h"

namespace bireal {

// A filter that pooling moves over an image.
struct PoolFilter {
  Padding::Kind padding;
  int height, width;
  int stride_h, stride_w;
};

class ChannelOps;
class RowTail;

// Work on the output of a step that the step can do by itself, while it has the values at hand.
struct Epilogue {
  enum Kind {
    kAdd,         // Of the step's output and another tensor. Only the sum is kept.
    kConcat,      // Of the channels of the step's output and another tensor. Only that is kept.
    kAddToLast,   // To the last channels of another tensor, of which all are kept.
    kMaxPool,     // Of the step's output. Only the maxima are kept.
    kChannelOps,  // On the step's output. Only the results are kept.
    kPackSigns,   // Of the step's output, which is kept as well.
  };
  Kind kind;
  bool relu = false;                // Of the sum.
  PoolFilter pool = {};             // Of the maxima.
  const ChannelOps* ops = nullptr;  // Those of kChannelOps; before the signs are packed, or null.
  const RowTail* tail = nullptr;    // What becomes of the sum, or of all channels.
  int last = -1;                    // The tensor of the last channels.
};

class Step {
 public:
  // A tensor that the step reads or writes; `bytes` is its size as Prepare found or made it.
  struct Port {
    int tensor;
    size_t bytes;
  };

  static constexpr int kMaxPorts = 3;  // Of either kind.

  virtual ~Step() = default;

  // "LceBconv2d (node 12) + ADD (node 13)", the ops that the step stands for: what a message
  // about it starts with.
  const std::string& name() const { return name_; }
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }

  bool reads(int tensor) const {
    return std::any_of(inputs_.begin(), inputs_.end(),
                       [tensor](const Port& input) { return input.tensor == tensor; });
  }

  // Checks the tensors as they are now and gives the outputs their shapes. Called again
  // whenever the interpreter allocates tensors. Throws ModelError.
  void Prepare(TfLiteContext* context, const ThreadPool& pool);

  // What the step before this one, whose output it reads, could do instead; null if nothing.
  virtual const Epilogue* epilogue() const { return nullptr; }

  // Lets this step do the work of `next` as well, a step that reads its first output and has an
  // epilogue. Returns whether it can, and may keep `next` then; where it cannot, nothing has
  // changed.
  virtual bool TakeOver(std::unique_ptr<Step>&) { return false; }

  // Lets this step read what `before`, constant operators on channels, reads, and do their work as
  // well: theirs need not exist then. Returns whether it can; where it cannot, nothing has changed.
  virtual bool ReadThrough(const Step&) { return false; }
  // Whether it can of some.
  virtual bool reads_through() const { return false; }

  // Whether the outputs are parts of the input.
  virtual bool only_copies() const { return false; }

  // Whether Run does without a place for the first output where nobody reads it.
  virtual bool skips_unread_output() const { return false; }

  // The input in whose memory the first output may lie, or -1: each value of it is read before
  // the output's value in the same place is written.
  virtual int in_place_input() const { return -1; }

  // The input whose channels, all or all but the last, begin each pixel of the first output, or -1:
  // a value of it is read before the output's in the same place is written. Where nobody else reads
  // it, the output may lie in its memory, if there the pixels are far enough from each other.
  virtual int growing_input() const { return -1; }

  // Whether the first output's pixels may be further from each other than they need, so that it can
  // be such an input.
  virtual bool can_leave_gaps() const { return false; }

  // Call this where the step reads through `before`, which is no longer a step then.
  void AddNameBefore(const Step& before) { name_ = before.name_ + " + " + name_; }

  // Called after Prepare if there is such an input: the first output's pixels are that many floats
  // from each other, and the input lies there already, or it does not.
  virtual void Place(size_t, bool) {}

  // `inputs` and `outputs` hold as many bytes as the ports say, aligned for their types, and do
  // not overlap but for the input above. A skipped output is null.
  virtual void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const = 0;

 protected:
  // The node has that input and an output: the step starts with these.
  Step(std::string name, const TfLiteNode& node, int input = 0)
      : name_(std::move(name)),
        inputs_{{node.inputs->data[input], 0}},
        outputs_{{node.outputs->data[0], 0}} {}

  // Call this when the step takes over the work of `next`.
  void AddName(const Step& next) { name_ += " + " + next.name_; }

  void AddInput(int tensor) { inputs_.push_back({tensor, 0}); }
  void AddOutput(int tensor) { outputs_.push_back({tensor, 0}); }
  void ReplaceInput(int tensor) { inputs_[0].tensor = tensor; }
  void ReplaceOutput(int tensor) { outputs_[0].tensor = tensor; }
  void RemoveLastOutput() { outputs_.pop_back(); }

  const TfLiteTensor& Input(const TfLiteContext& context, int port = 0) const;
  const TfLiteTensor& Output(const TfLiteContext& context, int port = 0) const;

  // The rest of Prepare, after the inputs are known to have a shape; calls Resize for every output.
  virtual void Resolve(TfLiteContext* context, const ThreadPool& pool) = 0;

  // Gives an output its shape.
  void Resize(TfLiteContext* context, const std::vector<int>& dims, int port = 0) const;

 private:
  std::string name_;
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEP_H_
