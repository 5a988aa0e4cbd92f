#include "delegate/steps/row_step.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "delegate/kernels/bits.h"
#include "delegate/model.h"

namespace bireal {

int ChannelOperands(const TfLiteTensor& tensor, int channels) {
  if (tensor.dims == nullptr) return 0;
  for (int i = 0; i + 1 < tensor.dims->size; ++i) {
    if (tensor.dims->data[i] != 1) return 0;
  }
  const int size = tensor.dims->size == 0 ? 1 : LastDim(tensor);
  return size == 1 || size == channels ? size : 0;
}

int ImageOperands(const TfLiteTensor& tensor, int images, int channels) {
  if (tensor.dims == nullptr || tensor.dims->size < 1 || tensor.dims->size > 4 ||
      LastDim(tensor) != channels) {
    return 0;
  }
  const bool has_batch = tensor.dims->size == 4;
  for (int i = has_batch ? 1 : 0; i + 1 < tensor.dims->size; ++i) {
    if (tensor.dims->data[i] != 1) return 0;
  }
  const int batch = has_batch ? tensor.dims->data[0] : 1;
  return batch == 1 || batch == images ? batch : 0;
}

void ChannelOps::Append(ChannelOp op, int tensor, int port) {
  ops_.push_back({op, tensor, port, {}, 0});
}

void ChannelOps::Append(const ChannelOps& others, int first_port) {
  for (Entry entry : others.ops_) {
    if (entry.port > 0) entry.port += first_port - 1;
    ops_.push_back(std::move(entry));
  }
}

bool ChannelOps::is_constant() const {
  return std::all_of(ops_.begin(), ops_.end(), [](const Entry& entry) { return entry.port < 0; });
}

bool ChannelOps::is_scale() const {
  const bool has_sum = !ops_.empty() && ops_.back().op == ChannelOp::kAdd;
  const size_t products = ops_.size() - has_sum;
  return is_constant() && (products == 0 || (products == 1 && ops_[0].op == ChannelOp::kMultiply));
}

std::vector<float> ChannelOps::Constants(ChannelOp op, float otherwise) const {
  for (const Entry& entry : ops_) {
    if (entry.op == op) return entry.constants;
  }
  return std::vector<float>(channels_, otherwise);
}

void ChannelOps::Resolve(const TfLiteContext& context, int images, int channels) {
  channels_ = channels;
  for (Entry& entry : ops_) {
    if (entry.tensor < 0) continue;
    const TfLiteTensor& operand = TensorAt(context, entry.tensor, "operand");
    RequireType(operand, {kTfLiteFloat32}, "operand");
    if (entry.port >= 0) {
      const int gates = ImageOperands(operand, images, channels);
      if (gates == 0) {
        Fail(
            "operand: must have one value for each of the %d channels, of all or of each of the "
            "%d images",
            channels, images);
      }
      entry.image_stride = gates == 1 ? 0 : channels;
      continue;
    }
    const int size = ChannelOperands(operand, channels);
    if (size == 0 || operand.bytes != size * sizeof(float)) {
      Fail("operand: must be a constant, one for each of the %d channels or one for all of them",
           channels);
    }
    entry.constants.assign(channels, 0.0f);
    std::memcpy(entry.constants.data(), operand.data, operand.bytes);
    if (size == 1) std::fill(entry.constants.begin(), entry.constants.end(), entry.constants[0]);
  }
}

void ChannelOps::Run(const FloatKernel& kernel, const void* const* inputs, int image,
                     const float* in, size_t in_stride, size_t pixels, float* out) const {
  for (const Entry& entry : ops_) {
    const float* operand = entry.constants.data();
    if (entry.port >= 0) {
      operand = static_cast<const float*>(inputs[entry.port]) + image * entry.image_stride;
    }
    kernel.channel_op(entry.op, in, in_stride, pixels, channels_, operand, 0, out);
    in = out;
    in_stride = channels_;
  }
}

bool RowTail::TakeOver(const Epilogue& epilogue, int first_port) {
  if (packs_) return false;  // The signs are those of the value so far.
  if (epilogue.ops != nullptr && !epilogue.ops->is_constant() && first_port == 0) return false;
  switch (epilogue.kind) {
    case Epilogue::kChannelOps:
      ops_.Append(*epilogue.ops, first_port);
      return true;
    case Epilogue::kPackSigns:
      packs_ = true;
      if (epilogue.ops != nullptr) sign_ops_.Append(*epilogue.ops, first_port);
      return true;
    default:
      return false;
  }
}

void RowTail::Resolve(const TfLiteContext& context, const ThreadPool& pool, int images,
                      int channels) {
  constexpr int kChunkFloats = 2048;
  channels_ = channels;
  ops_.Resolve(context, images, channels);
  sign_ops_.Resolve(context, images, channels);
  if (!sign_ops_.empty() && sign_ops_.is_scale()) {
    sign_factors_ = sign_ops_.Constants(ChannelOp::kMultiply, 1.0f);
    sign_summands_ = sign_ops_.Constants(ChannelOp::kAdd, 0.0f);
  }
  chunk_pixels_ = std::max(1, kChunkFloats / channels);
  chunk_floats_ = WholeCacheLines<float>(chunk_pixels_ * channels);
  const bool computes_signs = !sign_ops_.empty() && sign_factors_.empty();
  scratch_ = packs_ && (!ops_.empty() || computes_signs)
                 ? MakeAligned<float>(chunk_floats_ * pool.num_threads())
                 : nullptr;
}

void RowTail::Run(const void* const* inputs, int image, int thread, const float* in,
                  size_t in_stride, size_t pixels, float* out, uint32_t* signs) const {
  float* const scratch = scratch_ != nullptr ? scratch_.get() + thread * chunk_floats_ : nullptr;
  for (size_t first = 0; first < pixels; first += chunk_pixels_) {
    const size_t count = std::min(chunk_pixels_, pixels - first);
    const float* values = in + first * in_stride;
    size_t stride = in_stride;
    if (!ops_.empty()) {
      float* results = out != nullptr ? out + first * channels_ : scratch;
      ops_.Run(kernel_, inputs, image, values, stride, count, results);
      values = results;
      stride = channels_;
    }
    if (signs == nullptr) continue;
    if (!sign_factors_.empty()) {
      kernel_.pack_scaled(values, stride, count, channels_,
                          {sign_factors_.data(), sign_summands_.data()},
                          signs + first * WordsFor(channels_));
      continue;
    }
    if (!sign_ops_.empty()) {
      sign_ops_.Run(kernel_, inputs, image, values, stride, count, scratch);
      values = scratch;
      stride = channels_;
    }
    // Pixels without gaps are one call's.
    const size_t at_once = stride == static_cast<size_t>(channels_) ? count : 1;
    for (size_t pixel = 0; pixel < count; pixel += at_once) {
      quantize_.pack_float(values + pixel * stride, at_once, channels_,
                           signs + (first + pixel) * WordsFor(channels_));
    }
  }
}

bool RowStep::TakeOver(std::unique_ptr<Step>& next) {
  if (next->inputs()[0].tensor != outputs()[0].tensor || !tail_.TakeOver(*next->epilogue())) {
    return false;
  }
  AddName(*next);
  if (tail_.packs()) {
    AddOutput(next->outputs().back().tensor);
  } else {
    ReplaceOutput(next->outputs()[0].tensor);
  }
  return true;
}

void RowStep::ResolveOutputs(TfLiteContext* context, const ThreadPool& pool, std::vector<int> dims,
                             int images) {
  const int channels = dims.back();
  tail_.Resolve(*context, pool, images, channels);
  RequireType(Output(*context), {kTfLiteFloat32}, "output");
  Resize(context, dims);
  if (!tail_.packs()) return;
  RequireType(Output(*context, 1), {kTfLiteInt32}, "packed output");
  dims.back() = WordsFor(channels);
  Resize(context, dims, 1);
}

}  // namespace bireal
