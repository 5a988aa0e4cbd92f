// One step of a partition: an op of the model, ready to run, with its options parsed, its shapes
// checked and its weights laid out.
#ifndef BIREAL_DELEGATE_STEP_H_
#define BIREAL_DELEGATE_STEP_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "delegate/tflite_abi.h"
#include "delegate/thread_pool.h"

namespace bireal {

class Step {
 public:
  // A tensor that the step reads or writes; `bytes` is its size as Prepare found or made it.
  struct Port {
    int tensor;
    size_t bytes;
  };

  static constexpr int kMaxPorts = 2;  // Of either kind.

  virtual ~Step() = default;

  // "LceBconv2d (node 12) + ADD (node 13)", the ops that the step stands for: what a message
  // about it starts with.
  const std::string& name() const { return name_; }
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }

  // Checks the tensors as they are now and gives the outputs their shapes. Called again
  // whenever the interpreter allocates tensors. Throws ModelError.
  void Prepare(TfLiteContext* context, const ThreadPool& pool);

  // Whether Run does without a place for the first output where nobody reads it.
  virtual bool skips_unread_output() const { return false; }

  // `inputs` and `outputs` hold as many bytes as the ports say, aligned for their types, and do
  // not overlap. A skipped output is null.
  virtual void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const = 0;

 protected:
  Step(std::string name, int input, int output)
      : name_(std::move(name)), inputs_{{input, 0}}, outputs_{{output, 0}} {}

  // For a step that takes over the work of `other`, which follows it.
  void TakeOver(const Step& other) { name_ += " + " + other.name_; }

  void AddInput(int tensor) { inputs_.push_back({tensor, 0}); }
  void AddOutput(int tensor) { outputs_.push_back({tensor, 0}); }
  void ReplaceOutput(int tensor) { outputs_[0].tensor = tensor; }

  const TfLiteTensor& Input(const TfLiteContext& context, int port = 0) const;
  const TfLiteTensor& Output(const TfLiteContext& context, int port = 0) const;

  // The shape-dependent part of Prepare; calls Resize for every output.
  virtual void Resolve(TfLiteContext* context, const ThreadPool& pool) = 0;

  // Takes ownership of `shape`.
  void Resize(TfLiteContext* context, TfLiteIntArray* shape, int port = 0) const;

 private:
  std::string name_;
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEP_H_
