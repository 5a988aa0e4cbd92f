// The kernels as the definitions say them. Every other set must equal this one.
#include <algorithm>
#include <cstring>

#include "delegate/kernels/kernels.h"

namespace bireal {
namespace {

bool Supported() { return true; }

bool Handles(const BconvShape&) { return true; }

size_t WeightBytes(const BconvShape& shape) {
  return sizeof(uint32_t) * shape.channels_out * TapCount(shape) * shape.words_per_group;
}

size_t ScratchBytes(const BconvShape&) { return 0; }

void Pack(const BconvShape& shape, const uint32_t* filter, uint8_t* weights) {
  std::memcpy(weights, filter, WeightBytes(shape));
}

void Accumulate(const BconvShape& shape, const BconvRow& row) {
  const Window& window = shape.window;
  const int words = shape.words_per_group;
  const int channels_out_per_group = shape.channels_out / shape.groups;
  const size_t pixel_words = static_cast<size_t>(words) * shape.groups;
  const size_t filter_words = static_cast<size_t>(TapCount(shape)) * words;

  for (int ox = 0; ox < window.out_w; ++ox) {
    for (int o = 0; o < shape.channels_out; ++o) {
      const int group = o / channels_out_per_group;
      const uint32_t* w = reinterpret_cast<const uint32_t*>(row.weights) + o * filter_words;
      int32_t different = 0;  // Pairs of different signs.
      int32_t zeros = 0;      // Channels multiplied by a zero of the border.
      for (int fy = 0; fy < window.filter_h; ++fy) {
        const int y = row.out_y * window.stride_h - window.pad_top + fy * window.dilation_h;
        for (int fx = 0; fx < window.filter_w; ++fx, w += words) {
          const int x = ox * window.stride_w - window.pad_left + fx * window.dilation_w;
          if (y >= 0 && y < window.in_h && x >= 0 && x < window.in_w) {
            const uint32_t* pixel = row.input +
                                    (static_cast<size_t>(y) * window.in_w + x) * pixel_words +
                                    static_cast<size_t>(group) * words;
            for (int i = 0; i < words; ++i) different += __builtin_popcount(pixel[i] ^ w[i]);
          } else if (shape.pad_with_ones) {
            for (int i = 0; i < words; ++i) different += __builtin_popcount(w[i]);
          } else {
            zeros += shape.channels_per_group;
          }
        }
      }
      row.t[static_cast<size_t>(ox) * shape.channels_out + o] = 2 * different + zeros;
    }
  }
}

void PackFloat(const float* in, size_t rows, int channels, uint32_t* out) {
  for (size_t row = 0; row < rows; ++row, in += channels) {
    for (int c = 0; c < channels; c += kBitsPerWord) {
      uint32_t word = 0;
      for (int bit = 0; bit < kBitsPerWord && c + bit < channels; ++bit) {
        // The comparison, not the sign bit: -0.0 is not negative, nor is a flushed denormal.
        word |= static_cast<uint32_t>(in[c + bit] < 0.0f) << bit;
      }
      *out++ = word;
    }
  }
}

}  // namespace

void PortableStoreFloat(const int32_t* t, int pixels, int channels, const Affine& affine,
                        const Residual& residual, float* values, uint32_t* signs) {
  for (int pixel = 0; pixel < pixels; ++pixel, t += channels) {
    const size_t first = static_cast<size_t>(pixel) * channels;
    for (int c = 0; c < channels; ++c) {
      const int32_t clamped = std::max(std::min(t[c], affine.clamp_max), affine.clamp_min);
      float y = static_cast<float>(clamped) * affine.multiplier[c] + affine.bias[c];
      if (residual.shortcut != nullptr) {
        y = y + residual.shortcut[first + c];
        if (residual.relu) y = y < 0.0f ? 0.0f : y;  // A NaN stays one.
      }
      values[first + c] = y;
    }
  }
  if (signs != nullptr) PackFloat(values, pixels, channels, signs);
}

const Kernels kPortable = {
    "portable",
    Supported,
    {Handles, WeightBytes, ScratchBytes, Pack, Accumulate,
     TwoPassFloatRow<Accumulate, PortableStoreFloat>},
    {PackFloat},
    &kPortableFloat,
    &kPortableBytes,
};

}  // namespace bireal
