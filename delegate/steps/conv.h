#ifndef BIREAL_DELEGATE_STEPS_CONV_H_
#define BIREAL_DELEGATE_STEPS_CONV_H_

#include <memory>
#include <optional>
#include <string>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/sources.h"
#include "delegate/step.h"
#include "delegate/steps/conv_rows.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// TensorFlow Lite's CONV_2D of floats, or of pixels that become floats, as the stems of networks
// have it: of at most 4 input channels, or in each of several groups, with a filter of 7x7 and
// stride 2 or of 3x3 and stride 1 or 2. It can take over what follows it, operators on channels,
// the MAX_POOL_2D and the LceQuantize: then no map of the
// convolution's size exists.
class ConvStep : public Step {
 public:
  // Whether the node is such a CONV_2D.
  static bool Claims(const TfLiteContext& context, const Sources& sources, const TfLiteNode& node);

  ConvStep(std::string name, const TfLiteContext& context, const Sources& sources,
           const TfLiteNode& node, const Kernels& kernels);

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
  void RunRows(const char* image, int begin, int end, int thread, float* out,
               uint32_t* signs) const;

  const Kernels& kernels_;
  ChannelOps conv_ops_;  // Of the convolution, before it is pooled.
  RowTail tail_;         // Of the output.
  const int filter_;
  const int bias_;
  std::optional<Pixels> pixels_;  // What the input is made of, if it is.
  Padding::Kind padding_ = Padding::kSame;
  ConvShape shape_ = {};
  bool pools_ = false;
  PoolFilter pool_filter_ = {};

  Window pool_window_ = {};
  int images_ = 0;
  int chunk_rows_ = 0;  // Of the output: what a thread takes at once.
  std::unique_ptr<ConvRows> rows_;
  AlignedArray<char> zeros_;  // A prepared row outside the image.
  size_t in_row_bytes_ = 0;
  // A thread's memory: as many prepared rows as the filter has rows, as many rows of the
  // convolution as the pool's filter has, a row of the output, and scratch.
  size_t prepared_bytes_ = 0;
  size_t conv_bytes_ = 0;
  size_t output_bytes_ = 0;
  size_t thread_bytes_ = 0;
  AlignedArray<char> memory_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_CONV_H_
