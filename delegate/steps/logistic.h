#ifndef BIREAL_DELEGATE_STEPS_LOGISTIC_H_
#define BIREAL_DELEGATE_STEPS_LOGISTIC_H_

#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// TensorFlow Lite's LOGISTIC of floats, the sigmoid of a gate.
class LogisticStep : public Step {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  LogisticStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
               const Kernels& kernels);

  int in_place_input() const override { return 0; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const FloatKernel& kernel_;
  size_t rows_ = 0;
  int channels_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_LOGISTIC_H_
