#ifndef BIREAL_DELEGATE_STEPS_BCONV_H_
#define BIREAL_DELEGATE_STEPS_BCONV_H_

#include <memory>
#include <string>
#include <vector>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/model.h"
#include "delegate/step.h"

namespace bireal {

// LceBconv2d: a binary convolution. With float output it can take over what follows it in a
// residual block, the ADD of the shortcut and the LceQuantize of the sum, so that each
// activation is written once and read once.
class BconvStep : public Step {
 public:
  // Throws ModelError.
  BconvStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
            const Kernels& kernels);

  // The ADD of the convolution and a shortcut, and then the LceQuantize of the output.
  bool TakeOver(std::unique_ptr<Step>& next) override;

  bool skips_unread_output() const override { return packs() && convolution_ == nullptr; }
  int in_place_input() const override { return has_shortcut() && convolution_ == nullptr ? 1 : -1; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  bool has_shortcut() const { return add_ != nullptr; }
  bool packs() const { return outputs().size() > 1; }

  // All rows of the convolution. Null are a shortcut that is not to be added, values that nobody
  // wants, and signs that nobody wants.
  void Convolve(const void* input, const void* shortcut, void* values, void* signs,
                ThreadPool& pool) const;
  void ResolveGroups(int words_in);
  void ResolveThresholds(const TfLiteContext& context);
  void ResolveAffine(const TfLiteContext& context, int depth);
  template <typename T>
  std::vector<T> PerChannel(const TfLiteContext& context, int index, TfLiteType type,
                            const char* what) const;

  const BconvKernel& best_;  // The instruction set's.
  // The ADD that was taken over, and the tensor between the two. It does the addition by itself
  // where an input of the graph was resized so that one of the two is broadcast.
  std::unique_ptr<Step> add_;
  int convolution_tensor_ = -1;
  // Tensors with constants.
  int filter_;
  int multiplier_;
  int bias_;
  int thresholds_;
  // Options.
  int channels_in_;
  int activation_;
  Padding::Kind padding_;
  // What Resolve made of them.
  BconvShape shape_ = {};
  TfLiteType type_ = kTfLiteNoType;
  int rows_ = 0;                         // Of the whole batch.
  const BconvKernel* kernel_ = nullptr;  // best_, or the portable one for an odd shape.
  AlignedArray<uint8_t> weights_;
  std::vector<float> scale_;
  std::vector<float> offset_;
  int32_t clamp_min_ = 0;
  int32_t clamp_max_ = 0;
  std::vector<int32_t> count_thresholds_;
  // For each thread: an output row of counts, the same row as floats in case nobody wants it
  // stored, and what the kernel asks for.
  AlignedArray<int32_t> counts_;
  AlignedArray<float> values_;
  AlignedArray<uint8_t> scratch_;
  AlignedArray<float> convolution_;  // All of it, for an ADD that broadcasts; else null.
  size_t row_size_ = 0;  // Of counts_ and of values_, with what keeps the next row aligned.
  size_t scratch_bytes_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_BCONV_H_
