#ifndef BIREAL_DELEGATE_STEPS_QUANTIZE_H_
#define BIREAL_DELEGATE_STEPS_QUANTIZE_H_

#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// LceQuantize: packs the signs of a FLOAT32, INT8 or BOOL tensor along its last dimension.
class QuantizeStep : public Step {
 public:
  QuantizeStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
               const Kernels& kernels)
      : Step(std::move(name), node),
        kernel_(kernels.quantize),
        type_(context.tensors[node.inputs->data[0]].type) {}

  // No other step makes signs of what it has written as int8.
  const Epilogue* epilogue() const override {
    static constexpr Epilogue kPackSigns = {Epilogue::kPackSigns, false};
    return type_ == kTfLiteFloat32 ? &kPackSigns : nullptr;
  }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const QuantizeKernel& kernel_;
  const TfLiteType type_;  // Of the input.
  size_t rows_ = 0;
  int channels_ = 0;
  int32_t zero_point_ = 0;
};

// LceDequantize: the reverse.
class DequantizeStep : public Step {
 public:
  DequantizeStep(std::string name, const TfLiteContext&, const TfLiteNode& node, const Kernels&)
      : Step(std::move(name), node) {}

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  TfLiteType type_ = kTfLiteNoType;
  size_t rows_ = 0;
  int channels_ = 0;
  uint8_t plus_ = 0;
  uint8_t minus_ = 0;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_QUANTIZE_H_
