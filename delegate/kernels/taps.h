// Which taps of a filter lie inside the image.
#ifndef BIREAL_DELEGATE_KERNELS_TAPS_H_
#define BIREAL_DELEGATE_KERNELS_TAPS_H_

#include <algorithm>
#include <cstdint>

#include "delegate/kernels/window.h"

namespace bireal {

// The taps begin, ..., end - 1 of one axis of a filter.
struct Taps {
  int begin, end;

  int count() const { return end - begin; }
  bool operator==(const Taps& other) const { return begin == other.begin && end == other.end; }
};

// Those of `count` taps at first, first + step, ... whose positions are in [0, size).
inline Taps TapsInside(int first, int step, int count, int size) {
  // The distances below are sums of two positive ints: they fit 32 bits without a sign.
  const auto distance = [](int from, int to) {
    return static_cast<uint32_t>(to) - static_cast<uint32_t>(from);
  };
  const auto steps = static_cast<uint32_t>(step);
  const auto taps = static_cast<uint32_t>(count);
  const uint32_t begin = first < 0 ? std::min(distance(first, step - 1) / steps, taps) : 0;
  const uint32_t end = first < size ? std::min(distance(first, size - 1) / steps + 1, taps) : 0;
  return {static_cast<int>(begin), static_cast<int>(std::max(begin, end))};
}

inline Taps RowsInside(const Window& window, int out_y) {
  return TapsInside(out_y * window.stride_h - window.pad_top, window.dilation_h, window.filter_h,
                    window.in_h);
}

inline Taps ColumnsInside(const Window& window, int out_x) {
  return TapsInside(out_x * window.stride_w - window.pad_left, window.dilation_w, window.filter_w,
                    window.in_w);
}

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_TAPS_H_
