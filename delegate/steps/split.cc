#include "delegate/steps/split.h"

#include <cstring>
#include <utility>

#include "delegate/kernels/bits.h"
#include "delegate/model.h"
#include "delegate/steps/row_step.h"

namespace bireal {
namespace {

// The `count` numbers of a constant; returns whether it is one, and has so many.
bool ReadInts(const TfLiteContext& context, int tensor, int32_t* values, size_t count) {
  if (tensor < 0 || static_cast<size_t>(tensor) >= context.tensors_size) return false;
  const TfLiteTensor& constant = context.tensors[tensor];
  if (constant.type != kTfLiteInt32 || constant.allocation_type != kTfLiteMmapRo ||
      constant.data == nullptr || constant.bytes != count * sizeof(int32_t)) {
    return false;
  }
  std::memcpy(values, constant.data, constant.bytes);
  return true;
}

}  // namespace

bool SplitStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.inputs == nullptr || node.inputs->size != 3 || node.outputs == nullptr ||
      node.outputs->size != 2) {
    return false;
  }
  const TfLiteTensor* input = FindFloat(context, node.inputs->data[0]);
  int32_t sizes[2];
  int32_t axis;
  if (input == nullptr || input->allocation_type == kTfLiteMmapRo || input->dims == nullptr ||
      input->dims->size < 1 || FindFloat(context, node.outputs->data[0]) == nullptr ||
      FindFloat(context, node.outputs->data[1]) == nullptr ||
      !ReadInts(context, node.inputs->data[1], sizes, 2) ||
      !ReadInts(context, node.inputs->data[2], &axis, 1)) {
    return false;
  }
  return (axis == -1 || axis == input->dims->size - 1) && sizes[0] >= 1 && sizes[1] >= 1;
}

// The second part is the first output, since it is what another step adds to.
SplitStep::SplitStep(std::string name, const TfLiteContext&, const TfLiteNode& node, const Kernels&)
    : Step(std::move(name), node),
      sizes_(node.inputs->data[1]),
      axis_(node.inputs->data[2]),
      parts_{node.outputs->data[0], node.outputs->data[1]} {
  ReplaceOutput(parts_[1]);
  AddOutput(parts_[0]);
}

bool SplitStep::TakeOver(std::unique_ptr<Step>& next) {
  const Epilogue& epilogue = *next->epilogue();
  const int of_next[] = {next->inputs()[0].tensor, next->inputs().back().tensor};
  if (concat_ != nullptr) {
    if (!concat_->TakeOver(next)) return false;
    if (epilogue.kind == Epilogue::kPackSigns) {
      AddOutput(next->outputs().back().tensor);
    } else {
      ReplaceOutput(next->outputs()[0].tensor);
    }
  } else if (add_ != nullptr) {
    const int sum = outputs()[0].tensor;
    if (epilogue.kind != Epilogue::kConcat || of_next[0] != parts_[0] || of_next[1] != sum) {
      return false;
    }
    ReplaceOutput(next->outputs()[0].tensor);
    RemoveLastOutput();
    epilogue_ = {Epilogue::kAddToLast, false, {}, nullptr, epilogue.tail, parts_[1]};
    AddName(*next);
    concat_ = std::move(next);
    return true;
  } else {
    const int addend = of_next[of_next[0] == parts_[1] ? 1 : 0];
    if (epilogue.kind != Epilogue::kAdd || epilogue.relu || epilogue.tail->has_ops() ||
        epilogue.tail->packs() || addend == parts_[0]) {
      return false;
    }
    AddInput(addend);
    ReplaceOutput(next->outputs()[0].tensor);
    AddName(*next);
    add_ = std::move(next);
    return true;
  }
  AddName(*next);
  return true;
}

void SplitStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  int32_t sizes[2];
  int32_t axis = 0;
  int sum = 0;
  if (!ReadInts(*context, axis_, &axis, 1)) Fail("axis: must be one number");
  RequireLastAxis(input, axis);
  if (!ReadInts(*context, sizes_, sizes, 2) || sizes[0] < 1 || sizes[1] < 1 ||
      __builtin_add_overflow(sizes[0], sizes[1], &sum) || sum != LastDim(input)) {
    Fail("sizes: must be two numbers whose sum are the input's %d channels", LastDim(input));
  }
  rows_ = RowCount(input);
  for (int i : {0, 1}) {
    channels_[i] = sizes[i];
    RequireType(TensorAt(*context, parts_[i], "output"), {kTfLiteFloat32}, "output");
    ResizeTensor(context, parts_[i], ShapeWith(input, sizes[i]), "output");
    values_[i] = nullptr;
  }
  if (add_ == nullptr) return;
  add_->Prepare(context, pool);
  if (concat_ != nullptr) concat_->Prepare(context, pool);
  if (SameShape(Input(*context, 1), context->tensors[parts_[1]])) return;
  for (int i : {0, 1}) values_[i] = MakeAligned<float>(rows_ * channels_[i]);
  sum_ = MakeAligned<float>(add_->outputs()[0].bytes / sizeof(float));
}

void SplitStep::CopyPart(int part, const float* in, size_t rows, float* out,
                         size_t out_stride) const {
  if (part == 1) in += channels_[0];
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(out, in, channels_[part] * sizeof(float));
    in += static_cast<size_t>(channels_[0]) + channels_[1];
    out += out_stride;
  }
}

void SplitStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  if (values_[0] != nullptr) return RunApart(inputs, outputs, pool);
  ForRows(pool, rows_, [&](size_t begin, size_t rows, int thread) {
    const size_t channels = static_cast<size_t>(channels_[0]) + channels_[1];
    const auto* in = static_cast<const float*>(inputs[0]) + begin * channels;
    const bool joins = concat_ != nullptr;
    const size_t strides[] = {joins ? channels : channels_[0], joins ? channels : channels_[1]};
    float* const last = static_cast<float*>(outputs[0]) + begin * strides[1];
    float* const parts[] = {
        joins ? last : static_cast<float*>(outputs[1]) + begin * strides[0],
        joins ? last + channels_[0] : last,
    };
    for (int i : {0, 1}) CopyPart(i, in, rows, parts[i], strides[i]);
    if (add_ == nullptr) return;
    const auto* addend = static_cast<const float*>(inputs[1]) + begin * channels_[1];
    for (size_t row = 0; row < rows; ++row, addend += channels_[1]) {
      float* const sum = parts[1] + row * strides[1];
      for (int c = 0; c < channels_[1]; ++c) sum[c] += addend[c];
    }
    if (!joins) return;
    const RowTail& tail = *epilogue_.tail;
    auto* signs =
        tail.packs() ? static_cast<uint32_t*>(outputs[1]) + begin * WordsFor(channels) : nullptr;
    tail.Run(nullptr, 0, thread, last, channels, rows, last, signs);
  });
}

void SplitStep::RunApart(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const bool joins = concat_ != nullptr;
  float* const first = joins ? values_[0].get() : static_cast<float*>(outputs[1]);
  CopyPart(0, static_cast<const float*>(inputs[0]), rows_, first, channels_[0]);
  CopyPart(1, static_cast<const float*>(inputs[0]), rows_, values_[1].get(), channels_[1]);
  const bool is_first = add_->inputs()[0].tensor == parts_[1];
  const void* const addends[] = {is_first ? values_[1].get() : inputs[1],
                                 is_first ? inputs[1] : values_[1].get()};
  void* const sum = joins ? sum_.get() : outputs[0];
  add_->Run(addends, &sum, pool);
  if (!joins) return;
  const void* const joined[] = {first, sum};
  concat_->Run(joined, outputs, pool);
}

}  // namespace bireal
