#include "delegate/steps/add.h"

#include "delegate/model.h"

namespace bireal {

AddStep::AddStep(std::string name, int a, int b, int output, bool relu, const Kernels& kernels)
    : Step(std::move(name), a, output), kernels_(kernels), relu_(relu) {
  AddInput(b);
}

void AddStep::TakeQuantize(const QuantizeStep& quantize) {
  TakeOver(quantize);
  AddOutput(quantize.outputs()[0].tensor);
}

void AddStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& a = Input(*context, 0);
  const TfLiteTensor& b = Input(*context, 1);
  RequireType(a, {kTfLiteFloat32}, "first input");
  RequireType(b, {kTfLiteFloat32}, "second input");
  RequireType(Output(*context), {kTfLiteFloat32}, "output");
  RequireShape(a, sizeof(float), "first input");
  RequireShape(b, sizeof(float), "second input");
  if (!SameShape(a, b)) Fail("inputs: must have the same shape");
  rows_ = RowCount(a);
  channels_ = LastDim(a);
  Resize(context, MakeShapeLike(a, channels_));
  if (packs()) {
    RequireType(Output(*context, 1), {kTfLiteInt32}, "packed output");
    Resize(context, MakeShapeLike(a, WordsFor(channels_)), 1);
  }
}

void AddStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  ForRows(pool, rows_, [&](size_t begin, size_t rows) {
    const size_t offset = begin * channels_;
    const size_t count = rows * channels_;
    const float* a = static_cast<const float*>(inputs[0]) + offset;
    const float* b = static_cast<const float*>(inputs[1]) + offset;
    float* out = static_cast<float*>(outputs[0]) + offset;
    for (size_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
    if (relu_) {
      for (size_t i = 0; i < count; ++i) out[i] = out[i] > 0.0f ? out[i] : 0.0f;
    }
    if (packs()) {
      kernels_.pack_float(out, rows, channels_,
                          static_cast<uint32_t*>(outputs[1]) + begin * WordsFor(channels_));
    }
  });
}

}  // namespace bireal
