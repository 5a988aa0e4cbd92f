// LceBconv2d, binary convolution, on plain arrays.
//
// `accumulate` counts bits into a row of integers, which one of the stores turns into the output.
// Floats, what most networks are made of, have a function that does both: where the sums fit the
// registers, no integer is written.
#ifndef BIREAL_DELEGATE_KERNELS_BCONV_H_
#define BIREAL_DELEGATE_KERNELS_BCONV_H_

#include <cstddef>
#include <cstdint>

#include "delegate/kernels/bits.h"
#include "delegate/kernels/window.h"

namespace bireal {

struct BconvShape {
  Window window;
  int channels_out;
  int groups;
  int channels_per_group;  // Of the input.
  int words_per_group;     // ceil(channels_per_group / 32).
  // What lies outside the image: +1, or 0, which no bit can say.
  bool pad_with_ones;
};

inline int TapCount(const BconvShape& shape) {
  return shape.window.filter_h * shape.window.filter_w;
}

// Turns counts into outputs. `clamp_min` and `clamp_max` are the fused activation, expressed
// in t; multiplier and bias take t to the output.
struct Affine {
  const float* multiplier;  // channels
  const float* bias;        // channels
  int32_t clamp_min;
  int32_t clamp_max;
};

// What is added to the values of a row, pixels * channels of them, and whether negative sums
// become 0. Any other sum, NaN and -0.0 included, stays. Nothing is added where `shortcut` is null.
struct Residual {
  const float* shortcut;
  bool relu;
};

// An output row of one image, and what it is computed from.
struct BconvRow {
  const uint8_t* weights;  // `weight_bytes`, as `pack` laid the filter out.
  const uint32_t* input;   // The image: in_h * in_w * groups * words_per_group words.
  int out_y;
  uint8_t* scratch;  // `scratch_bytes`, aligned to 64, nobody else's during the call.
  int32_t* t;        // out_w * channels_out counts.
};

// What an instruction set brings for LceBconv2d.
struct BconvKernel {
  bool (*handles)(const BconvShape& shape);
  size_t (*weight_bytes)(const BconvShape& shape);
  size_t (*scratch_bytes)(const BconvShape& shape);
  // `filter`: (channels_out, filter_h, filter_w, words_per_group).
  void (*pack)(const BconvShape& shape, const uint32_t* filter, uint8_t* weights);

  // Counts: for every pixel ox and channel o, with the sums running
  // over the taps and channels that a filter covers,
  //
  //   t[ox * channels_out + o] = K - sum(x * w)        K = taps * channels_per_group
  //                            = sum(1 - x * w)
  //
  // that is 2 for every pair of different signs, and 1 for every channel of a zero.
  void (*accumulate)(const BconvShape& shape, const BconvRow& row);

  // values = relu(clamp(t) * multiplier + bias + shortcut), with the same t; and, unless `signs`
  // is null, the packed signs of those. `values` may be the shortcut's memory. What row.t holds
  // afterwards is not defined.
  void (*float_row)(const BconvShape& shape, const BconvRow& row, const Affine& affine,
                    const Residual& residual, float* values, uint32_t* signs);
};

// The second half of `float_row`, for `pixels` whose counts are there.
using StoreFloat = void (*)(const int32_t* t, int pixels, int channels, const Affine& affine,
                            const Residual& residual, float* values, uint32_t* signs);
void PortableStoreFloat(const int32_t* t, int pixels, int channels, const Affine& affine,
                        const Residual& residual, float* values, uint32_t* signs);

// A `float_row` in two passes, through a row of counts that stays in the first-level cache.
template <void (*kAccumulate)(const BconvShape&, const BconvRow&), StoreFloat kStore>
void TwoPassFloatRow(const BconvShape& shape, const BconvRow& row, const Affine& affine,
                     const Residual& residual, float* values, uint32_t* signs) {
  kAccumulate(shape, row);
  kStore(row.t, shape.window.out_w, shape.channels_out, affine, residual, values, signs);
}

// The other stores are fast enough everywhere as the compiler makes them.

// As PortableStoreFloat without a residual, then rounded to nearest with ties away from zero and
// saturated.
void StoreInt8(const int32_t* t, int pixels, int channels, const Affine& affine, int8_t* out);

// Bit 1 (that is, -1) where t > threshold. `out`: pixels * ceil(channels / 32) words.
void StorePacked(const int32_t* t, int pixels, int channels, const int32_t* thresholds,
                 uint32_t* out);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_BCONV_H_
