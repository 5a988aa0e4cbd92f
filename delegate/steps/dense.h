// Matrix products of floats: each pixel's channels times a matrix of constants.
#ifndef BIREAL_DELEGATE_STEPS_DENSE_H_
#define BIREAL_DELEGATE_STEPS_DENSE_H_

#include <string>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/sources.h"
#include "delegate/step.h"

namespace bireal {

// What the two ops below have in common; they differ in their options and in their shapes.
class DenseStep : public Step {
 public:
  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  DenseStep(std::string name, const Sources& sources, const TfLiteNode& node,
            const Kernels& kernels, int activation);

  // Checks the types and the constants, lays the weights out, and returns how many outputs a pixel
  // has. `rank`: of the filter, whose first dimension are the outputs and whose last the inputs.
  int ResolveWeights(const TfLiteContext& context, int rank);

  // To be set when the number of pixels is known.
  int pixels_ = 0;
  int channels_in() const { return shape_.channels_in; }

 private:
  const FloatKernel& kernel_;
  const int filter_;
  const int bias_;  // Or kTfLiteOptionalTensor.
  ConvShape shape_;
  int blocks_ = 0;
  AlignedArray<float> weights_;
};

// TensorFlow Lite's CONV_2D of floats with a filter of 1x1 and stride 1, as a shortcut has it.
class PointwiseConvStep : public DenseStep {
 public:
  static bool Claims(const TfLiteContext& context, const Sources& sources, const TfLiteNode& node);

  PointwiseConvStep(std::string name, const TfLiteContext& context, const Sources& sources,
                    const TfLiteNode& node, const Kernels& kernels);

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;
};

// TensorFlow Lite's FULLY_CONNECTED of floats, with or without a bias.
class FullyConnectedStep : public DenseStep {
 public:
  static bool Claims(const TfLiteContext& context, const Sources& sources, const TfLiteNode& node);

  FullyConnectedStep(std::string name, const TfLiteContext& context, const Sources& sources,
                     const TfLiteNode& node, const Kernels& kernels);

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const bool keeps_rank_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_DENSE_H_
