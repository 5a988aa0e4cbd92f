// The float operators of 1-bit networks, their stems, shortcuts and heads, on plain arrays.
//
// Bytes are canonical here as well: every product is added by a fused multiply-add, rounded once,
// in an order that does not depend on the instruction set. float_conv.h and float_rows.h say what
// is computed.
#ifndef BIREAL_DELEGATE_KERNELS_FLOAT_OPS_H_
#define BIREAL_DELEGATE_KERNELS_FLOAT_OPS_H_

#include <cstddef>
#include <cstdint>

#include "delegate/kernels/window.h"

namespace bireal {

// A convolution without dilation.
struct ConvShape {
  Window window;
  int channels_in;
  int channels_out;
  int groups;  // Of channels, which are convolved apart.
  bool relu;
};

// An operator on a value x and an operand.
enum class ChannelOp {
  kAdd,       // x + operand
  kMultiply,  // x * operand
  kPrelu,     // x < 0 ? x * operand : x
  kRelu,      // x < 0 ? 0 : x, without an operand.
};

// x * factor + summand, rounded after each, with one of each for every channel; null for x.
struct ChannelScale {
  const float* factors;
  const float* summands;
};

// What an instruction set brings for float operators.
struct FloatKernel {
  // Whether it is faster than LiteRT's own operators or takes less memory. Where it is not, the
  // float operators of a model run here only if somebody asks for that.
  bool is_default;

  // The kernel for convolutions of at most `narrow_channels` filters in a group, which would leave
  // half of a vector empty; null where it is this one.
  const FloatKernel* narrow;
  int narrow_channels;

  // Weights as `conv_row` reads them. `filter`: (channels_out, filter_h, filter_w, channels_in /
  // groups).
  size_t (*weight_floats)(const ConvShape& shape);
  void (*pack)(const ConvShape& shape, const float* filter, const float* bias, float* weights);

  // What `conv_row` reads of an input row, of in_w * channels_in values. Of a row outside the
  // image it reads `row_floats` zeros.
  size_t (*row_floats)(const ConvShape& shape);
  void (*prepare_row)(const ConvShape& shape, const float* input, float* scratch, float* row);

  // One output row, out_w * channels_out values, of `filter_h` prepared rows.
  void (*conv_row)(const ConvShape& shape, const float* weights, const float* const* rows,
                   float* scratch, float* out);

  // Memory of a call of the two functions above, nobody else's meanwhile.
  size_t (*scratch_floats)(const ConvShape& shape);

  // One block of filters of a convolution of 1x1 and stride 1, whose input needs no preparation:
  // `pixels` times channels_in values at `in`, channels_out at `out`. Blocks are numbered from 0.
  int (*block_count)(const ConvShape& shape);
  void (*conv_pixels)(const ConvShape& shape, const float* weights, int block, const float* in,
                      int pixels, float* out);

  // One output row of max pooling: the maximum over the windows' columns that lie in the image,
  // of the `row_count` rows, at least one, that do. A NaN may be lost.
  void (*max_row)(const Window& window, int channels, const float* const* rows, int row_count,
                  float* out);

  // Output row `out_y` of average pooling: the sum over the window's pixels that lie in the image,
  // which are scaled first, row by row, times `share`, or if that is 0 the reciprocal of how many
  // they are.
  void (*average_row)(const Window& window, int channels, const ChannelScale& scale, float share,
                      const float* image, int out_y, float* out);

  // Output row `out_y` of a depthwise convolution: the bias and the products with the window's
  // pixels that lie in the image, row by row. `weights`: (filter_h, filter_w, channels), then the
  // bias.
  void (*depthwise_row)(const Window& window, int channels, const float* image, int out_y,
                        const float* weights, float* out);

  // exp(beta * (x - max)), divided by their sum, of `count` values x, at least one.
  void (*softmax)(const float* in, int count, float beta, float* out);

  // 1 / (1 + exp(-x)) of `count` values x.
  void (*logistic)(const float* in, int count, float* out);

  // The operator on `pixels` times `channels` values, which are `in_stride` from pixel to pixel. A
  // pixel's operands are `operand_stride` after those of the pixel before: 0 where all have the
  // same ones. `out`, without gaps, may be `in`.
  void (*channel_op)(ChannelOp op, const float* in, size_t in_stride, size_t pixels, int channels,
                     const float* operand, size_t operand_stride, float* out);

  // The signs of such values when they are scaled, packed: `signs` is (pixels, words).
  void (*pack_scaled)(const float* in, size_t in_stride, size_t pixels, int channels,
                      const ChannelScale& scale, uint32_t* signs);
};

extern const FloatKernel kPortableFloat;

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_FLOAT_OPS_H_
