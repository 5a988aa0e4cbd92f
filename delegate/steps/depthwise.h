#ifndef BIREAL_DELEGATE_STEPS_DEPTHWISE_H_
#define BIREAL_DELEGATE_STEPS_DEPTHWISE_H_

#include <string>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/model.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// TensorFlow Lite's DEPTHWISE_CONV_2D of floats, with one filter for each channel: the blur before
// QuickNet's down-sampling.
class DepthwiseStep : public RowStep {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  DepthwiseStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
                const Kernels& kernels);

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const FloatKernel& kernel_;
  const int filter_;
  const int bias_;
  Padding::Kind padding_ = Padding::kSame;
  Window window_ = {};
  int channels_ = 0;
  int rows_ = 0;                 // Of the output, over all images.
  AlignedArray<float> weights_;  // Filters and bias.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_DEPTHWISE_H_
