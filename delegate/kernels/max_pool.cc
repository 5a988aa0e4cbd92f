#include "delegate/kernels/max_pool.h"

#include <algorithm>

namespace bireal {

void MaxPoolPacked(const Window& window, int words, const uint32_t* input, int out_y,
                   uint32_t* out) {
  const int top = out_y * window.stride_h - window.pad_top;
  const int y_begin = std::max(top, 0);
  const int y_end = std::min(top + window.filter_h, window.in_h);
  for (int ox = 0; ox < window.out_w; ++ox, out += words) {
    const int left = ox * window.stride_w - window.pad_left;
    const int x_begin = std::max(left, 0);
    const int x_end = std::min(left + window.filter_w, window.in_w);
    std::fill(out, out + words, ~uint32_t{0});
    for (int y = y_begin; y < y_end; ++y) {
      for (int x = x_begin; x < x_end; ++x) {
        const uint32_t* pixel = input + (static_cast<size_t>(y) * window.in_w + x) * words;
        for (int i = 0; i < words; ++i) out[i] &= pixel[i];
      }
    }
  }
}

}  // namespace bireal
