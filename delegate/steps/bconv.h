#ifndef BIREAL_DELEGATE_STEPS_BCONV_H_
#define BIREAL_DELEGATE_STEPS_BCONV_H_

#include <memory>
#include <string>
#include <vector>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/model.h"
#include "delegate/step.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// LceBconv2d: a binary convolution. With float output it can take over what follows it in a
// residual block, so that each activation is written once and read once: operators on its
// channels, the ADD of the shortcut or the CONCATENATION with other channels, operators on the
// result's channels, and the LceQuantize. It can also add itself to the last channels of a tensor.
class BconvStep : public Step {
 public:
  // Throws ModelError.
  BconvStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
            const Kernels& kernels);

  bool TakeOver(std::unique_ptr<Step>& next) override;

  bool skips_unread_output() const override {
    return packs() && convolution_ == nullptr && !widens();
  }
  int in_place_input() const override {
    return has_shortcut() && convolution_ == nullptr ? other_port_ : -1;
  }

  int growing_input() const override {
    return widens() && !is_first() && convolution_ == nullptr ? other_port_ : -1;
  }
  // Operators on all channels would need them without gaps.
  bool can_leave_gaps() const override {
    return growing_input() >= 0 && join_->epilogue()->tail->ops().empty();
  }
  void Place(size_t pixel_stride, bool is_in_place) override;

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  bool joins(Epilogue::Kind kind) const {
    return join_ != nullptr && join_->epilogue()->kind == kind;
  }
  bool has_shortcut() const { return joins(Epilogue::kAdd); }
  // Whether the result has more channels than the convolution.
  bool widens() const { return joins(Epilogue::kConcat) || joins(Epilogue::kAddToLast); }
  // Whether the convolution is the first of the two tensors that are joined.
  bool is_first() const { return join_->inputs()[0].tensor == convolution_tensor_; }
  bool packs() const { return outputs().size() > 1; }

  // Whether the shortcut is added after the kernel is done.
  bool adds_later() const { return has_shortcut() && !tail_.ops().empty(); }

  // All rows of the convolution. Null are a shortcut, or other channels, that are not to be
  // joined, values that nobody wants, and signs that nobody wants.
  void Convolve(const void* const* inputs, const void* other, void* values, void* signs,
                ThreadPool& pool) const;
  // A row of floats and their signs.
  void ConvolveRow(const BconvRow& counted, const Affine& affine, const void* const* inputs,
                   int row, int thread, const float* other, float* values, uint32_t* signs) const;
  void ResolveGroups(int words_in);
  void ResolveThresholds(const TfLiteContext& context);
  void ResolveAffine(const TfLiteContext& context, int depth);
  template <typename T>
  std::vector<T> PerChannel(const TfLiteContext& context, int index, TfLiteType type,
                            const char* what) const;

  const BconvKernel& best_;  // The instruction set's.
  const FloatKernel& float_ops_;
  RowTail tail_;  // Of the convolution.
  // The ADD, CONCATENATION or addition to the last channels that was taken over, the input that is
  // its other tensor, and the tensor between the two steps. An addition is done by itself where an
  // input of the graph was resized so that one of the two is broadcast.
  std::unique_ptr<Step> join_;
  int other_port_ = -1;
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
  int other_channels_ = 0;               // Of the result, beside the convolution's.
  size_t pixel_stride_ = 0;              // Of the output's floats.
  bool is_in_place_ = false;             // Whether the other channels are in the output already.
  const BconvKernel* kernel_ = nullptr;  // best_, or the portable one for an odd shape.
  AlignedArray<uint8_t> weights_;
  std::vector<float> scale_;
  std::vector<float> offset_;
  int32_t clamp_min_ = 0;
  int32_t clamp_max_ = 0;
  std::vector<int32_t> count_thresholds_;
  // For each thread: an output row of counts, the same row as floats that are not stored as they
  // are, and what the kernel asks for.
  AlignedArray<int32_t> counts_;
  AlignedArray<float> values_;
  AlignedArray<uint8_t> scratch_;
  AlignedArray<float> convolution_;  // All of it, for an addition that broadcasts; else null.
  size_t row_size_ = 0;  // Of counts_ and of values_, with what keeps the next row aligned.
  size_t scratch_bytes_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_BCONV_H_
