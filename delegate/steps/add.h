#ifndef BIREAL_DELEGATE_STEPS_ADD_H_
#define BIREAL_DELEGATE_STEPS_ADD_H_

#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"
#include "delegate/steps/quantize.h"

namespace bireal {

// TensorFlow Lite's ADD of two float tensors of one shape, with RELU or without: the shortcut
// of a residual block whose convolution another partition computed. It can pack the signs of
// the sum on the way.
class AddStep : public Step {
 public:
  AddStep(std::string name, int a, int b, int output, bool relu, const Kernels& kernels);

  bool relu() const { return relu_; }

  // Takes over the LceQuantize of the sum, which is written as well. Call once at most.
  void TakeQuantize(const QuantizeStep& quantize);
  bool packs() const { return outputs().size() > 1; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const Kernels& kernels_;
  const bool relu_;
  size_t rows_ = 0;
  int channels_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_ADD_H_
