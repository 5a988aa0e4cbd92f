#ifndef BIREAL_DELEGATE_STEPS_DYNAMIC_CONV_H_
#define BIREAL_DELEGATE_STEPS_DYNAMIC_CONV_H_

#include <string>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// TensorFlow Lite's CONV_2D of dynamic range, with a filter of 1x1 and stride 1: floats, which are
// rounded to int8 in steps of a 255th of their range in the image, times weights of int8 with a
// scale for each output channel. It gives the bytes of LiteRT's reference kernel on x86-64.
class DynamicConvStep : public Step {
 public:
  // Whether the node is such a CONV_2D.
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  DynamicConvStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
                  const Kernels& kernels);

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  void RunImage(const float* in, float* out, ThreadPool& pool) const;

  const ByteKernel& kernel_;
  const int filter_;
  const int bias_;
  const bool relu_;

  ByteShape shape_ = {};
  int images_ = 0;
  int pixels_ = 0;  // Of an image.
  AlignedArray<char> weights_;
  AlignedArray<float> scales_;
  AlignedArray<float> biases_;
  AlignedArray<int32_t> weight_sums_;  // Of each output channel.
  // Of the image that is being computed: where sums begin, the range of each chunk's values, and
  // a chunk of rounded values for each thread.
  AlignedArray<int32_t> starts_;
  AlignedArray<float> ranges_;
  size_t thread_bytes_ = 0;
  AlignedArray<char> memory_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_DYNAMIC_CONV_H_
