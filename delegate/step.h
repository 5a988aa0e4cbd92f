// One op of a model, ready to run: options parsed, shapes checked, weights laid out.
#ifndef BIREAL_DELEGATE_STEP_H_
#define BIREAL_DELEGATE_STEP_H_

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/tflite_abi.h"
#include "delegate/thread_pool.h"

namespace bireal {

// The model is malformed, or asks for what no LCE op can do. `what()` says which op it is about,
// which part of it, what was received and what is accepted.
class ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Step {
 public:
  Step(int input, int output) : input_(input), output_(output) {}
  virtual ~Step() = default;

  // "LceBconv2d (node 12)": what a message about it starts with.
  const std::string& name() const { return name_; }

  // Indices of the tensors it reads and writes.
  int input() const { return input_; }
  int output() const { return output_; }
  // Their sizes, as Prepare found them.
  size_t input_bytes() const { return input_bytes_; }
  size_t output_bytes() const { return output_bytes_; }

  // Checks the tensors as they are now and gives the output its shape. Called again whenever
  // the interpreter allocates tensors. Throws ModelError.
  void Prepare(TfLiteContext* context, const ThreadPool& pool);

  // `input` and `output` hold input_bytes() and output_bytes() bytes, aligned for their type,
  // and do not overlap.
  virtual void Run(const void* input, void* output, ThreadPool& pool) const = 0;

 protected:
  // The shape-dependent part of Prepare. Returns the output's shape, to be freed by ResizeTensor.
  virtual TfLiteIntArray* Resolve(const TfLiteContext& context, const TfLiteTensor& input,
                                  const TfLiteTensor& output, const ThreadPool& pool) = 0;

 private:
  void PrepareUnnamed(TfLiteContext* context, const ThreadPool& pool);

  friend std::unique_ptr<Step> MakeStep(const TfLiteContext&, int, const TfLiteNode&, const char*,
                                        const Kernels&);

  std::string name_;
  int input_;
  int output_;
  size_t input_bytes_ = 0;
  size_t output_bytes_ = 0;
};

bool IsLceOp(const TfLiteRegistration& registration);

// The step for node `index`, of the LCE op of that name. Throws ModelError when its options or
// its lists of inputs and outputs are malformed.
std::unique_ptr<Step> MakeStep(const TfLiteContext& context, int index, const TfLiteNode& node,
                               const char* op, const Kernels& kernels);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEP_H_
