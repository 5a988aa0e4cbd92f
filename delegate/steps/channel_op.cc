#include "delegate/steps/channel_op.h"

#include <algorithm>
#include <utility>

#include "delegate/kernels/bits.h"
#include "delegate/model.h"

namespace bireal {
namespace {

// Whether `operand` is a constant for each channel of `x`.
bool IsChannelConstant(const TfLiteTensor& x, const TfLiteTensor* operand) {
  return operand != nullptr && operand->allocation_type == kTfLiteMmapRo &&
         operand->data != nullptr && operand->dims != nullptr &&
         operand->dims->size <= x.dims->size && ChannelOperands(*operand, LastDim(x)) != 0 &&
         operand->bytes == ChannelOperands(*operand, LastDim(x)) * sizeof(float);
}

bool IsGate(const TfLiteTensor& x, const TfLiteTensor& gate) {
  return x.dims->size == 4 && gate.allocation_type != kTfLiteMmapRo &&
         ImageOperands(gate, x.dims->data[0], LastDim(x)) != 0;
}

bool IsMap(const TfLiteTensor* tensor) {
  return tensor != nullptr && tensor->allocation_type != kTfLiteMmapRo && tensor->dims != nullptr &&
         tensor->dims->size >= 1;
}

// Which input is the map, 0 or 1; -1 if the node is not a step's.
int MapInput(const TfLiteContext& context, const TfLiteNode& node, bool may_be_gated) {
  if (node.inputs == nullptr || node.inputs->size != 2 || node.outputs == nullptr ||
      node.outputs->size != 1 || node.inputs->data[0] == node.inputs->data[1]) {
    return -1;
  }
  const TfLiteTensor* out = FindFloat(context, node.outputs->data[0]);
  for (int i : {0, 1}) {
    const TfLiteTensor* x = FindFloat(context, node.inputs->data[i]);
    const TfLiteTensor* operand = FindFloat(context, node.inputs->data[1 - i]);
    if (out == nullptr || operand == nullptr || !IsMap(x) || !SameShape(*out, *x)) continue;
    if (IsChannelConstant(*x, operand) || (may_be_gated && IsGate(*x, *operand))) return i;
  }
  return -1;
}

// ADD's and MUL's options begin alike.
int Activation(const TfLiteNode& node) {
  return static_cast<const TfLiteMulParams*>(node.builtin_data)->activation;
}

}  // namespace

bool ChannelOpStep::Claims(const TfLiteContext& context, const TfLiteNode& node, ChannelOp op) {
  if (op == ChannelOp::kPrelu) return MapInput(context, node, false) == 0;
  return node.builtin_data != nullptr &&
         (Activation(node) == kTfLiteActNone || Activation(node) == kTfLiteActRelu) &&
         MapInput(context, node, op == ChannelOp::kMultiply) >= 0;
}

ChannelOpStep::ChannelOpStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
                             const Kernels& kernels, ChannelOp op)
    : RowStep(std::move(name), node, kernels, MapInput(context, node, true)) {
  const int operand = node.inputs->data[1 - MapInput(context, node, true)];
  int port = -1;
  if (context.tensors[operand].allocation_type != kTfLiteMmapRo) {
    port = static_cast<int>(inputs().size());
    AddInput(operand);
  }
  tail_.Append(op, operand, port);
  if (op != ChannelOp::kPrelu && Activation(node) == kTfLiteActRelu) {
    tail_.Append(ChannelOp::kRelu, -1);
  }
  epilogue_.kind = Epilogue::kChannelOps;
  epilogue_.ops = &tail_.ops();
}

bool ChannelOpStep::TakeOver(std::unique_ptr<Step>& next) {
  if (!RowStep::TakeOver(next)) return false;
  if (tail_.packs()) epilogue_.kind = Epilogue::kPackSigns;
  return true;
}

void ChannelOpStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32}, "input");
  if (!tail_.ops().is_constant()) RequireRank(input, 4, "input");
  channels_ = LastDim(input);
  images_ = input.dims->size > 1 ? input.dims->data[0] : 1;
  image_pixels_ = RowCount(input) / images_;
  ResolveOutputs(context, pool, ShapeWith(input, channels_), images_);
}

void ChannelOpStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  constexpr size_t kPixelsPerPiece = 64;
  const auto pieces = static_cast<int>((image_pixels_ - 1) / kPixelsPerPiece + 1);
  const auto* in = static_cast<const float*>(inputs[0]);
  auto* out = static_cast<float*>(outputs[0]);
  auto* signs = tail_.packs() ? static_cast<uint32_t*>(outputs[1]) : nullptr;
  pool.ParallelFor(images_ * pieces, [&](int index, int thread) {
    const int image = index / pieces;
    const size_t begin = index % pieces * kPixelsPerPiece;
    const size_t first = image * image_pixels_ + begin;
    tail_.Run(inputs, image, thread, in + first * channels_, channels_,
              std::min(kPixelsPerPiece, image_pixels_ - begin),
              out != nullptr ? out + first * channels_ : nullptr,
              signs != nullptr ? signs + first * WordsFor(channels_) : nullptr);
  });
}

}  // namespace bireal
