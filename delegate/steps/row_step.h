// What steps do with the rows of floats that they have computed.
#ifndef BIREAL_DELEGATE_STEPS_ROW_STEP_H_
#define BIREAL_DELEGATE_STEPS_ROW_STEP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// How many values the tensor has if it has one for each of `channels`, or one for all of them, in
// its last dimension and nowhere else; else 0.
int ChannelOperands(const TfLiteTensor& tensor, int channels);

// For how many images, 1 or `images`, the tensor has a value for each of `channels`, by which
// broadcasting multiplies images (batch, height, width, channels); else 0.
int ImageOperands(const TfLiteTensor& tensor, int images, int channels);

// Operators with an operand for each channel, one after the other, each rounded by itself.
class ChannelOps {
 public:
  bool empty() const { return ops_.empty(); }

  // Adds an operator. `tensor` is its operand, or -1 if it has none; `port` is -1 where that is a
  // constant, else the input of the step that it is, with one operand for each image and channel.
  void Append(ChannelOp op, int tensor, int port = -1);
  // Adds another step's, whose input 1 is this step's input `first_port`.
  void Append(const ChannelOps& others, int first_port);

  // Whether all operands are constants.
  bool is_constant() const;
  // Whether these are at most a MUL by constants and then an ADD of some.
  bool is_scale() const;

  // Checks the operands for images of that many channels. Throws ModelError.
  void Resolve(const TfLiteContext& context, int images, int channels);

  // Of pixels of one image, which are `in_stride` from each other. `inputs` are the step's; `out`,
  // without gaps, may be `in`.
  void Run(const FloatKernel& kernel, const void* const* inputs, int image, const float* in,
           size_t in_stride, size_t pixels, float* out) const;

  // The constants of the only operator of that kind, or as many as there are channels of
  // `otherwise`.
  std::vector<float> Constants(ChannelOp op, float otherwise) const;

 private:
  struct Entry {
    ChannelOp op;
    int tensor;
    int port;
    std::vector<float> constants;
    size_t image_stride = 0;  // From one image's operands to the next one's.
  };

  std::vector<Entry> ops_;
  int channels_ = 0;
};

// What a step does with the rows of floats that it has computed: operators that it took over, and
// then an LceQuantize, which may have operators of its own before it.
class RowTail {
 public:
  explicit RowTail(const Kernels& kernels)
      : kernel_(*kernels.float_ops), quantize_(kernels.quantize) {}

  const ChannelOps& ops() const { return ops_; }
  bool packs() const { return packs_; }
  // Whether it computes, and not just packs.
  bool has_ops() const { return !ops_.empty() || !sign_ops_.empty(); }
  void Append(ChannelOp op, int tensor, int port = -1) { ops_.Append(op, tensor, port); }

  // Takes over operators, or an LceQuantize. Returns whether it can. Operands that are computed
  // become the step's inputs from `first_port` on; there must be none if that is 0.
  bool TakeOver(const Epilogue& epilogue, int first_port = 0);

  // Throws ModelError.
  void Resolve(const TfLiteContext& context, const ThreadPool& pool, int images, int channels);

  // Of pixels of one image, which are `in_stride` from each other. `out`, without gaps, may be
  // `in`, or null where nobody wants the values; `signs` may be null, too.
  void Run(const void* const* inputs, int image, int thread, const float* in, size_t in_stride,
           size_t pixels, float* out, uint32_t* signs) const;

 private:
  const FloatKernel& kernel_;
  const QuantizeKernel& quantize_;
  ChannelOps ops_;
  bool packs_ = false;
  ChannelOps sign_ops_;  // Of the values, before they are packed.
  // What they are if they scale; else empty.
  std::vector<float> sign_factors_;
  std::vector<float> sign_summands_;
  int channels_ = 0;
  size_t chunk_pixels_ = 0;  // What is done at once, and stays in the first-level cache.
  size_t chunk_floats_ = 0;
  AlignedArray<float> scratch_;  // A chunk for each thread.
};

// A step that computes rows of floats and can take over what follows.
class RowStep : public Step {
 public:
  bool TakeOver(std::unique_ptr<Step>& next) override;

 protected:
  RowStep(std::string name, const TfLiteNode& node, const Kernels& kernels, int input = 0)
      : Step(std::move(name), node, input), tail_(kernels) {}

  // Gives the outputs their shapes; `dims` are those of the floats, for `images` images.
  void ResolveOutputs(TfLiteContext* context, const ThreadPool& pool, std::vector<int> dims,
                      int images);

  RowTail tail_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_ROW_STEP_H_
