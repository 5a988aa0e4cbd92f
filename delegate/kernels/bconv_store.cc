#include <algorithm>
#include <cmath>

#include "delegate/kernels/bconv.h"

namespace bireal {
namespace {

float Transform(int32_t t, const Affine& affine, int channel) {
  t = std::max(std::min(t, affine.clamp_max), affine.clamp_min);
  return static_cast<float>(t) * affine.multiplier[channel] + affine.bias[channel];
}

}  // namespace

void StoreInt8(const int32_t* t, int pixels, int channels, const Affine& affine, int8_t* out) {
  for (int pixel = 0; pixel < pixels; ++pixel, t += channels, out += channels) {
    for (int c = 0; c < channels; ++c) {
      float y = Transform(t[c], affine, c);
      // Saturated first, as only then the conversion to an integer is defined. A NaN is 0, as LCE
      // has it.
      if (std::isnan(y)) y = 0.0f;
      if (y < -128.0f) y = -128.0f;
      if (y > 127.0f) y = 127.0f;
      out[c] = static_cast<int8_t>(std::round(y));  // Ties away from zero.
    }
  }
}

void StorePacked(const int32_t* t, int pixels, int channels, const int32_t* thresholds,
                 uint32_t* out) {
  for (int pixel = 0; pixel < pixels; ++pixel, t += channels) {
    for (int c = 0; c < channels; c += kBitsPerWord) {
      uint32_t word = 0;
      for (int bit = 0; bit < kBitsPerWord && c + bit < channels; ++bit) {
        word |= static_cast<uint32_t>(t[c + bit] > thresholds[c + bit]) << bit;
      }
      *out++ = word;
    }
  }
}

}  // namespace bireal
