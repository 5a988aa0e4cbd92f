// Which taps of a filter lie inside the image.
#ifndef BIREAL_DELEGATE_KERNELS_TAPS_H_
#define BIREAL_DELEGATE_KERNELS_TAPS_H_

#include <algorithm>

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
  const int begin = first < 0 ? std::min((step - 1 - first) / step, count) : 0;
  const int end = first < size ? std::min((size - 1 - first) / step + 1, count) : 0;
  return {begin, std::max(begin, end)};
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
