#include "delegate/steps/add.h"

#include "delegate/model.h"

namespace bireal {

namespace {

int Activation(const TfLiteNode& node) {
  return static_cast<const TfLiteAddParams*>(node.builtin_data)->activation;
}

}  // namespace

bool AddStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 2 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const TfLiteTensor* a = FindFloat(context, node.inputs->data[0]);
  const TfLiteTensor* b = FindFloat(context, node.inputs->data[1]);
  const TfLiteTensor* sum = FindFloat(context, node.outputs->data[0]);
  if (a == nullptr || b == nullptr || sum == nullptr) return false;
  // A constant keeps its shape when the batch is resized: from then on the sum broadcasts it.
  const bool has_constant =
      a->allocation_type == kTfLiteMmapRo || b->allocation_type == kTfLiteMmapRo;
  return !has_constant && SameShape(*a, *b) && a->dims->size > 0 &&
         (Activation(node) == kTfLiteActNone || Activation(node) == kTfLiteActRelu);
}

AddStep::AddStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                 const Kernels& kernels)
    : Step(std::move(name), node),
      kernel_(kernels.quantize),
      epilogue_{Epilogue::kAdd, Activation(node) == kTfLiteActRelu} {
  AddInput(node.inputs->data[1]);
}

bool AddStep::TakeOver(const Step& next) {
  if (packs() || next.epilogue()->kind != Epilogue::kPackSigns) return false;
  AddName(next);
  AddOutput(next.outputs()[0].tensor);
  return true;
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
    if (epilogue_.relu) {
      for (size_t i = 0; i < count; ++i) out[i] = out[i] > 0.0f ? out[i] : 0.0f;
    }
    if (packs()) {
      kernel_.pack_float(out, rows, channels_,
                         static_cast<uint32_t*>(outputs[1]) + begin * WordsFor(channels_));
    }
  });
}

}  // namespace bireal
