#ifndef BIREAL_DELEGATE_STEPS_AVERAGE_POOL_H_
#define BIREAL_DELEGATE_STEPS_AVERAGE_POOL_H_

#include <string>
#include <vector>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/step.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// TensorFlow Lite's AVERAGE_POOL_2D of floats: pixels outside the image do not count.
class AveragePoolStep : public Step {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  AveragePoolStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
                  const Kernels& kernels);

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  // Of a pool whose filter is not known yet.
  AveragePoolStep(std::string name, const TfLiteNode& node, const Kernels& kernels);

  // The input's dimensions, which are checked to be those of images of floats.
  const int* InputDims(const TfLiteContext& context) const;

  // The shape of the output of pooling images of these dimensions.
  std::vector<int> ResolveOutput(const int* in);

  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

  const FloatKernel& kernel_;
  PoolFilter filter_ = {};
  Window window_ = {};
  int channels_ = 0;
  int rows_ = 0;  // Of the output, over all images.
};

// TensorFlow Lite's MEAN of floats over height and width: a pool whose filter is the image. It can
// do a MUL and an ADD by channel that come before it.
class MeanStep : public AveragePoolStep {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  MeanStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
           const Kernels& kernels);

  bool reads_through() const override { return true; }
  bool ReadThrough(const Step& before) override;

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const bool keeps_rank_;
  ChannelOps ops_;  // Before the mean.
  // What multiplies a channel, and what is added then; empty where nothing is done.
  std::vector<float> factors_;
  std::vector<float> summands_;
  AlignedArray<float> sums_;  // Of each row of the input, if there are several threads.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_AVERAGE_POOL_H_
