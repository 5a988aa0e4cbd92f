// The binary convolution as its definition says it. Every other kernel must equal this one.
#include "delegate/kernels/bconv_portable.h"

#include <cstring>

namespace bireal {
namespace {

bool Supported() { return true; }

void Pack(const BconvShape& shape, const uint32_t* filter, uint32_t* weights) {
  const Window& window = shape.window;
  std::memcpy(weights, filter,
              sizeof(uint32_t) * shape.channels_out * window.filter_h * window.filter_w *
                  shape.words_per_group);
}

void Accumulate(const BconvShape& shape, const uint32_t* weights, const uint32_t* input, int out_y,
                int32_t* t) {
  const Window& window = shape.window;
  const int words = shape.words_per_group;
  const int channels_out_per_group = shape.channels_out / shape.groups;
  const size_t pixel_words = static_cast<size_t>(words) * shape.groups;
  const size_t filter_words = static_cast<size_t>(window.filter_h) * window.filter_w * words;

  for (int ox = 0; ox < window.out_w; ++ox) {
    for (int o = 0; o < shape.channels_out; ++o) {
      const int group = o / channels_out_per_group;
      const uint32_t* w = weights + o * filter_words;
      int32_t different = 0;  // Pairs of different signs.
      int32_t zeros = 0;      // Channels multiplied by a zero of the border.
      for (int fy = 0; fy < window.filter_h; ++fy) {
        const int y = out_y * window.stride_h - window.pad_top + fy * window.dilation_h;
        for (int fx = 0; fx < window.filter_w; ++fx, w += words) {
          const int x = ox * window.stride_w - window.pad_left + fx * window.dilation_w;
          if (y >= 0 && y < window.in_h && x >= 0 && x < window.in_w) {
            const uint32_t* pixel = input +
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
      t[static_cast<size_t>(ox) * shape.channels_out + o] = 2 * different + zeros;
    }
  }
}

}  // namespace

const BconvKernel kBconvPortable = {"portable", Supported, Pack, Accumulate};

}  // namespace bireal
