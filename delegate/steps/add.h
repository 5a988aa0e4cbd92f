#ifndef BIREAL_DELEGATE_STEPS_ADD_H_
#define BIREAL_DELEGATE_STEPS_ADD_H_

#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// TensorFlow Lite's ADD of two float tensors of one shape, with RELU or without: the shortcut
// of a residual block whose convolution another partition computed. It can pack the signs of
// the sum on the way.
class AddStep : public Step {
 public:
  // Whether the node is such an ADD.
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  AddStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
          const Kernels& kernels);

  const Epilogue* epilogue() const override { return &epilogue_; }

  // The LceQuantize of the sum.
  bool TakeOver(const Step& next) override;

  int in_place_input() const override { return 0; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  bool packs() const { return outputs().size() > 1; }

  const QuantizeKernel& kernel_;
  const Epilogue epilogue_;
  size_t rows_ = 0;
  int channels_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_ADD_H_
