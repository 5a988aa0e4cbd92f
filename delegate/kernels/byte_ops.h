// Convolutions whose weights are int8: of an image's pixels, or of floats that were rounded to 8
// bits. Sums are exact integers, and become floats by two multiplications and one addition, each
// rounded: the same bytes on every CPU.
#ifndef BIREAL_DELEGATE_KERNELS_BYTE_OPS_H_
#define BIREAL_DELEGATE_KERNELS_BYTE_OPS_H_

#include <cstddef>
#include <cstdint>

namespace bireal {

// A filter that slides along a row of pixels.
struct ByteShape {
  int rows;          // Of the filter.
  int depth;         // Values of a row under the filter: its columns times channels.
  int pixel_stride;  // Values from one output pixel to the next.
  int channels_out;

  // How many products of bytes fit a sum of 32 bits, with as much again for what it begins with.
  static constexpr int kMaxProducts = 1 << 14;
};

// (sum * scale) * input_scale + bias. The arrays have as many elements as `padded_channels` says.
struct ByteFinish {
  const int32_t* start;  // What the sum begins with.
  const float* scale;
  float input_scale;
  const float* bias;
  bool relu;
};

// What an instruction set brings for them. Activations are from 0 to 255 and lie in memory as
// values of one or two bytes, as is quick to multiply.
struct ByteKernel {
  int value_bytes;
  // Values in a row are read in groups, the last of which may begin with the filter's last value.
  int group;

  int (*padded_channels)(int channels_out);
  size_t (*weight_bytes)(const ByteShape& shape);
  // `filter`: (channels_out, rows, depth).
  void (*pack)(const ByteShape& shape, const int8_t* filter, void* weights);

  // `count` bytes as values.
  void (*widen)(const uint8_t* in, size_t count, void* values);
  // Extends [*least, *greatest] to contain `count` floats. A NaN is passed over.
  void (*extend_range)(const float* in, size_t count, float* least, float* greatest);
  // zero + round(x * inverse_scale), ties away from zero, of `count` floats x, at least -128 and at
  // most 127, as values that are 128 more. `zero` is one of those integers.
  void (*quantize)(const float* in, size_t count, float inverse_scale, int zero, void* values);

  // `pixels` outputs of channels_out floats. `rows` are those under the filter, from the first
  // pixel's first value on.
  void (*multiply)(const ByteShape& shape, const void* weights, const void* const* rows, int pixels,
                   const ByteFinish& finish, float* out);
};

extern const ByteKernel kPortableBytes;

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_BYTE_OPS_H_
