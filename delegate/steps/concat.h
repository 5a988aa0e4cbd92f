#ifndef BIREAL_DELEGATE_STEPS_CONCAT_H_
#define BIREAL_DELEGATE_STEPS_CONCAT_H_

#include <cstddef>
#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// TensorFlow Lite's CONCATENATION of the channels of two float tensors.
class ConcatStep : public RowStep {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  ConcatStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
             const Kernels& kernels);

  // Writes pixels of two tensors, which have `a_channels` and `b_channels`, beside each other, and
  // `out_stride` from pixel to pixel; `a` is `a_stride` from pixel to pixel, or null where it is
  // there already.
  static void Concatenate(const float* a, int a_channels, size_t a_stride, const float* b,
                          int b_channels, size_t pixels, float* out, size_t out_stride);

  const Epilogue* epilogue() const override { return &epilogue_; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const Epilogue epilogue_;
  const int axis_;
  size_t rows_ = 0;
  int a_channels_ = 0;
  int b_channels_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_CONCAT_H_
