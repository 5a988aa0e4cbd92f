#ifndef BIREAL_DELEGATE_STEPS_SPLIT_H_
#define BIREAL_DELEGATE_STEPS_SPLIT_H_

#include <cstddef>
#include <memory>
#include <string>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// TensorFlow Lite's SPLIT_V of the channels of a float tensor into two parts. It can take over the
// ADD of another tensor to the second part, and then the CONCATENATION of the first part and the
// sum: all three add to the last channels, as MeliusNet's improvement blocks do, and are taken over
// by the convolution whose result is added.
class SplitStep : public Step {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  SplitStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
            const Kernels& kernels);

  const Epilogue* epilogue() const override { return concat_ != nullptr ? &epilogue_ : nullptr; }
  bool TakeOver(std::unique_ptr<Step>& next) override;
  bool only_copies() const override { return add_ == nullptr; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  // Copies `rows_` pixels of a part to where pixels are `out_stride` from each other.
  void CopyPart(int part, const float* in, size_t rows, float* out, size_t out_stride) const;
  // Where the ADD broadcasts.
  void RunApart(const void* const* inputs, void* const* outputs, ThreadPool& pool) const;

  const int sizes_;  // A constant, as is the axis.
  const int axis_;
  const int parts_[2];  // Tensors.
  // What was taken over.
  std::unique_ptr<Step> add_;
  std::unique_ptr<Step> concat_;
  Epilogue epilogue_;
  size_t rows_ = 0;
  int channels_[2] = {};  // Of the parts.
  // The parts and the sum, where an input of the graph was resized so that the ADD broadcasts: then
  // each operator is done by itself. Else null.
  AlignedArray<float> values_[2];
  AlignedArray<float> sum_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_SPLIT_H_
