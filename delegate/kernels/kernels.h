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
// turns the integers into the output. So a new instruction set, or a new kind of output, is
// one function.
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

// Counts one output row: for every pixel ox and channel o, with the sums running over the
// taps and channels that a filter covers,
//
//   t[ox * channels_out + o] = K - sum(x * w)        K = taps * channels_per_group
//                            = sum(1 - x * w)
//
// that is 2 for every pair of different signs, and 1 for every channel of a zero.
//
//   weights: as `pack` laid them out.
//   input:   one image, in_h * in_w * groups * words_per_group words.
struct BconvKernel {
  const char* name;
  bool (*supported)();
  // Lays the filter (channels_out, filter_h, filter_w, words_per_group) out for `accumulate`,
  // in as many words as it has.
  void (*pack)(const BconvShape& shape, const uint32_t* filter, uint32_t* weights);
  void (*accumulate)(const BconvShape& shape, const uint32_t* weights, const uint32_t* input,
                     int out_y, int32_t* t);
};

// Turns counts into outputs. `clamp_min` and `clamp_max` are the fused activation, expressed
// in t; multiplier and bias take t to the output.
struct Affine {
  const float* multiplier;  // channels
  const float* bias;        // channels
  int32_t clamp_min;
  int32_t clamp_max;
};

// out = clamp(t) * multiplier + bias.
void StoreFloat(const int32_t* t, int pixels, int channels, const Affine& affine, float* out);

// The same, rounded to nearest with ties away from zero and saturated.
void StoreInt8(const int32_t* t, int pixels, int channels, const Affine& affine, int8_t* out);

// Bit 1 (that is, -1) where t > threshold. `out`: pixels * ceil(channels / 32) words.
void StorePacked(const int32_t* t, int pixels, int channels, const int32_t* thresholds,
                 uint32_t* out);

// LceQuantize: packs the signs of `rows` rows of `channels` values. An int8 value is negative
// below `zero_point`; false means -1.
void PackFloat(const float* in, size_t rows, int channels, uint32_t* out);
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

// The binary convolution kernel of that name, the best one for this CPU when `name` is null,
// or null when there is none or this CPU cannot run it.
const BconvKernel* FindBconvKernel(const char* name);
// "portable, ...": what FindBconvKernel knows, for an error message.
const char* BconvKernelNames();

constexpr int kBitsPerWord = 32;

constexpr int WordsFor(int channels) { return (channels - 1) / kBitsPerWord + 1; }

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_KERNELS_H_
