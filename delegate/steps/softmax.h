#ifndef BIREAL_DELEGATE_STEPS_SOFTMAX_H_
#define BIREAL_DELEGATE_STEPS_SOFTMAX_H_

#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// TensorFlow Lite's SOFTMAX of floats, along the last axis.
class SoftmaxStep : public Step {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  SoftmaxStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
              const Kernels& kernels);

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const FloatKernel& kernel_;
  const float beta_;
  size_t rows_ = 0;
  int classes_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_SOFTMAX_H_
