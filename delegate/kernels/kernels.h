// The arithmetic of LCE's ops on plain arrays. Nothing here knows TensorFlow Lite.
//
// Conventions, throughout the delegate:
//   - Activations are NHWC. A bit-packed tensor holds its channels in 32-bit words, channel c
//     in bit c % 32 of word c / 32; bit 0 means +1 and bit 1 means -1; the bits behind the
//     last channel are 0.
//   - The sign of x is (x < 0 ? -1 : +1): -0.0 and NaN are +1.
//   - Sizes have been checked: every product below fits its type.
//
// A binary convolution runs in two passes over each output row: `accumulate` counts bits into
// a row of integers that stays in the first-level cache, and one of the `Store...` functions
// turns the integers into the output.
//
// Arithmetic is canonical, the same bytes on every CPU: integers until the end, then one
// multiplication and one addition, rounded separately.
#ifndef BIREAL_DELEGATE_KERNELS_KERNELS_H_
#define BIREAL_DELEGATE_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace bireal {

// A filter sliding over an image. Tap (fy, fx) of output pixel (oy, ox) looks at the input
// pixel (oy * stride_h - pad_top + fy * dilation_h, ...), which may lie outside the image.
struct Window {
  int in_h, in_w;
  int out_h, out_w;
  int filter_h, filter_w;
  int stride_h, stride_w;
  int dilation_h, dilation_w;
  int pad_top, pad_left;
};

struct BconvShape {
  Window window;
  int channels_out;
  int groups;
  int channels_per_group;  // Of the input.
  int words_per_group;     // ceil(channels_per_group / 32).
  // What lies outside the image: +1, or 0, which no bit can say.
  bool pad_with_ones;
};

// Turns counts into outputs. `clamp_min` and `clamp_max` are the fused activation, expressed
// in t; multiplier and bias take t to the output.
struct Affine {
  const float* multiplier;  // channels
  const float* bias;        // channels
  int32_t clamp_min;
  int32_t clamp_max;
};

// What is added to the values of a row, pixels * channels of them, and whether negative sums
// become 0. Nothing is added where `shortcut` is null.
struct Residual {
  const float* shortcut;
  bool relu;
};

// What an instruction set brings. Every set gives the same bytes as the portable one.
struct Kernels {
  const char* name;
  bool (*supported)();  // By this CPU.

  // Binary convolution. `accumulate` counts one output row of one image: for every pixel ox and
  // channel o, with the sums running over the taps and channels that a filter covers,
  //
  //   t[ox * channels_out + o] = K - sum(x * w)        K = taps * channels_per_group
  //                            = sum(1 - x * w)
  //
  // that is 2 for every pair of different signs, and 1 for every channel of a zero.
  //
  //   weights: `weight_bytes`, as `pack` laid out the filter (channels_out, filter_h, filter_w,
  //            words_per_group).
  //   input:   one image, in_h * in_w * groups * words_per_group words.
  //   scratch: `scratch_bytes`, aligned to 8, nobody else's during the call.
  bool (*handles)(const BconvShape& shape);
  size_t (*weight_bytes)(const BconvShape& shape);
  size_t (*scratch_bytes)(const BconvShape& shape);
  void (*pack)(const BconvShape& shape, const uint32_t* filter, uint8_t* weights);
  void (*accumulate)(const BconvShape& shape, const uint8_t* weights, const uint32_t* input,
                     int out_y, uint8_t* scratch, int32_t* t);

  // values = relu(clamp(t) * multiplier + bias + shortcut); and, unless `signs` is null, the
  // packed signs of those.
  void (*store_float)(const int32_t* t, int pixels, int channels, const Affine& affine,
                      const Residual& residual, float* values, uint32_t* signs);

  // LceQuantize of floats: packs the signs of `rows` rows of `channels` values.
  void (*pack_float)(const float* in, size_t rows, int channels, uint32_t* out);
};

extern const Kernels kPortable;

// The kernels of that name, the best ones for this CPU when `name` is null, or null when there
// are none or this CPU cannot run them.
const Kernels* FindKernels(const char* name);
// "avx512, avx2, portable": what FindKernels knows, for an error message.
const char* KernelNames();

// The rest is fast enough everywhere as the compiler makes it.

// As store_float, then rounded to nearest with ties away from zero and saturated.
void StoreInt8(const int32_t* t, int pixels, int channels, const Affine& affine, int8_t* out);

// Bit 1 (that is, -1) where t > threshold. `out`: pixels * ceil(channels / 32) words.
void StorePacked(const int32_t* t, int pixels, int channels, const int32_t* thresholds,
                 uint32_t* out);

// LceQuantize of other types: an int8 value is negative below `zero_point`; false means -1.
void PackInt8(const int8_t* in, size_t rows, int channels, int32_t zero_point, uint32_t* out);
void PackBool(const uint8_t* in, size_t rows, int channels, uint32_t* out);

// LceDequantize: writes `plus` for +1 and `minus` for -1.
void UnpackFloat(const uint32_t* in, size_t rows, int channels, float plus, float minus,
                 float* out);
void UnpackBytes(const uint32_t* in, size_t rows, int channels, uint8_t plus, uint8_t minus,
                 uint8_t* out);

// LceBMaxPool2d: the maximum over {-1, +1} is the bitwise AND over the window's pixels that lie
// inside the image. One output row of one image, `words` words to a pixel.
void MaxPoolPacked(const Window& window, int words, const uint32_t* input, int out_y,
                   uint32_t* out);

constexpr int kBitsPerWord = 32;

constexpr int WordsFor(int channels) { return (channels - 1) / kBitsPerWord + 1; }

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_KERNELS_H_
