#ifndef BIREAL_DELEGATE_STEPS_CONV_H_
#define BIREAL_DELEGATE_STEPS_CONV_H_

#include <string>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/step.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// TensorFlow Lite's CONV_2D of floats as the stems of networks have it: of at most 4 input
// channels, or in each of several groups, with a filter of 7x7 and stride 2 or of 3x3 and stride 1
// or 2. It can take over what
// follows it, operators on channels, the MAX_POOL_2D and the LceQuantize: then no map of the
// convolution's size exists.
class ConvStep : public Step {
 public:
  // Whether the node is such a CONV_2D.
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  ConvStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
           const Kernels& kernels);

  bool TakeOver(std::unique_ptr<Step>& next) override;

  bool skips_unread_output() const override { return packs(); }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  // The convolution's rows of one image, on one thread.
  class Rows;

  bool packs() const { return tail_.packs(); }
  const Window& output_window() const { return pools_ ? pool_window_ : shape_.window; }
  // Rows [begin, end) of the output of one image, which lie at `out` and `signs`, if they are not
  // null.
  void RunRows(const float* image, int begin, int end, int thread, float* out,
               uint32_t* signs) const;

  const FloatKernel& best_;    // The instruction set's.
  const FloatKernel* kernel_;  // best_, or the one for few filters.
  ChannelOps conv_ops_;        // Of the convolution, before it is pooled.
  RowTail tail_;               // Of the output.
  const int filter_;
  const int bias_;
  Padding::Kind padding_ = Padding::kSame;
  ConvShape shape_ = {};
  bool pools_ = false;
  PoolFilter pool_filter_ = {};

  Window pool_window_ = {};
  int images_ = 0;
  int chunk_rows_ = 0;  // Of the output: what a thread takes at once.
  AlignedArray<float> weights_;
  AlignedArray<float> zeros_;  // A prepared row outside the image.
  // A thread's memory: as many prepared rows as the filter has rows, as many rows of the
  // convolution as the pool's filter has, a row of the output, and the kernel's scratch.
  size_t prepared_floats_ = 0;
  size_t conv_floats_ = 0;
  size_t output_floats_ = 0;
  size_t thread_floats_ = 0;
  AlignedArray<float> memory_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_CONV_H_
