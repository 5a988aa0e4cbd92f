#include "delegate/steps/quantize.h"

#include <algorithm>
#include <cmath>

#include "delegate/model.h"

namespace bireal {
void QuantizeStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {kTfLiteFloat32, kTfLiteInt8, kTfLiteBool}, "input");
  RequireType(Output(*context), {kTfLiteInt32}, "output");
  rows_ = RowCount(input);
  channels_ = LastDim(input);
  zero_point_ = input.params.zero_point;
  Resize(context, ShapeWith(input, WordsFor(channels_)));
}

void QuantizeStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const size_t words = WordsFor(channels_);
  ForRows(pool, rows_, [&](size_t begin, size_t rows, int) {
    uint32_t* out = static_cast<uint32_t*>(outputs[0]) + begin * words;
    const size_t offset = begin * channels_;
    switch (type_) {
      case kTfLiteFloat32:
        return kernel_.pack_float(static_cast<const float*>(inputs[0]) + offset, rows, channels_,
                                  out);
      case kTfLiteInt8:
        return PackInt8(static_cast<const int8_t*>(inputs[0]) + offset, rows, channels_,
                        zero_point_, out);
      default:
        return PackBool(static_cast<const uint8_t*>(inputs[0]) + offset, rows, channels_, out);
    }
  });
}

void DequantizeStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  const TfLiteTensor& output = Output(*context);
  RequireType(input, {kTfLiteInt32}, "input");
  RequireType(output, {kTfLiteFloat32, kTfLiteInt8, kTfLiteBool}, "output");
  // Only the output's declared shape knows the number of channels.
  if (output.dims == nullptr || output.dims->size != input.dims->size || LastDim(output) < 1 ||
      WordsFor(LastDim(output)) != LastDim(input)) {
    Fail(
        "output: must have the input's rank and 32 channels, or up to 31 less, for each of its "
        "%d words",
        LastDim(input));
  }
  type_ = output.type;
  rows_ = RowCount(input);
  channels_ = LastDim(output);
  plus_ = 1;   // true
  minus_ = 0;  // false
  if (type_ == kTfLiteInt8) {
    const float scale = output.params.scale;
    const float steps = std::round(1.0f / scale);  // The quantized distance from 0 to 1.
    if (!(scale > 0) || !(steps < 1e6f)) {
      Fail("output: scale %g is not supported; accepted: above 1e-6", scale);
    }
    const int zero_point = output.params.zero_point;
    if (zero_point < -128 || zero_point > 127) {
      Fail("output: zero point %d must be in [-128, 127]", zero_point);
    }
    const int offset = static_cast<int>(steps);
    plus_ = static_cast<uint8_t>(std::min(127, zero_point + offset));
    minus_ = static_cast<uint8_t>(std::max(-128, zero_point - offset));
  }
  Resize(context, ShapeWith(input, channels_));
}

void DequantizeStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const size_t words = WordsFor(channels_);
  ForRows(pool, rows_, [&](size_t begin, size_t rows, int) {
    const uint32_t* in = static_cast<const uint32_t*>(inputs[0]) + begin * words;
    const size_t offset = begin * channels_;
    if (type_ == kTfLiteFloat32) {
      UnpackFloat(in, rows, channels_, 1.0f, -1.0f, static_cast<float*>(outputs[0]) + offset);
    } else {
      UnpackBytes(in, rows, channels_, plus_, minus_, static_cast<uint8_t*>(outputs[0]) + offset);
    }
  });
}

}  // namespace bireal
