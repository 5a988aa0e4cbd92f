#ifndef BIREAL_DELEGATE_STEPS_CHANNEL_OP_H_
#define BIREAL_DELEGATE_STEPS_CHANNEL_OP_H_

#include <cstddef>
#include <memory>
#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// TensorFlow Lite's MUL and ADD of floats and an operand for each channel, with RELU or without,
// and its PRELU. The operand is a constant; that of a MUL may also be computed, for each image.
class ChannelOpStep : public RowStep {
 public:
  // Whether the node, an ADD, a MUL or a PRELU, is such a one.
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node, ChannelOp op);

  ChannelOpStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
                const Kernels& kernels, ChannelOp op);

  const Epilogue* epilogue() const override { return &epilogue_; }
  bool TakeOver(std::unique_ptr<Step>& next) override;

  bool skips_unread_output() const override { return tail_.packs(); }
  int in_place_input() const override { return 0; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  Epilogue epilogue_;
  int images_ = 0;
  size_t image_pixels_ = 0;
  int channels_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_CHANNEL_OP_H_
