// The convolutions of FloatKernel in terms of `Vector`, which an instruction set's file defines
// before it includes this one, in namespace bireal and a namespace without a name:
//
//   Type, kLanes            a vector of floats, with +, - and *, and how many they are
//   Load, Store, Broadcast  between vectors and memory
//   MultiplyAdd(a, b, c)    a * b + c, rounded once
//   Max(a, b)               a > b ? a : b
//   IfNegative(x, a, b)     x < 0 ? a : b
//   Negative(x)             a bit for each lane, 1 where x < 0
//   StorePart               the first values of a vector, at most all
//   Pin(vector)             keeps it in a register: GCC would load it again for each use
//   kTileGroups, kMaxVectors  a tile of sums: that many groups of pixels by vectors of filters
//
// and BIREAL_TARGET, the attribute of functions that may use that instruction set.
//
// A convolution is a matrix product for each row of the output. Directly, a group is one pixel:
// its sum runs over filter_h rows of filter_w * channels_in neighbours, or of filter_w runs where
// the channels are in groups.
//
// A filter of 7 columns and stride 2 is a filter of 4 columns on the even columns of the padded
// input and one of 3 on the odd ones, both of stride 1. Winograd's F(4, 4) (Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks", section 4.1) makes 4 outputs of such a filter with
// 7 products: it evaluates, as polynomials, 7 neighbours and the filter at the points 0, 1, -1,
// 1/2, -1/2, 2 and infinity, multiplies, and interpolates. So here a group is 4 pixels, and for
// each point there is a product of its own, whose sums run over filter_h rows of both phases'
// channels: 3.5 * channels_in multiplications for an output and a row in place of
// 7 * channels_in. All coefficients but the filter's are exact in float32.

#ifndef BIREAL_DELEGATE_KERNELS_FLOAT_CONV_H_
#define BIREAL_DELEGATE_KERNELS_FLOAT_CONV_H_

#include <algorithm>

#include "delegate/kernels/bits.h"
#include "delegate/kernels/float_ops.h"
#include "delegate/kernels/taps.h"

#define BIREAL_TARGET_INLINE BIREAL_TARGET __attribute__((always_inline)) inline

namespace bireal {
namespace {

using Type = Vector::Type;

constexpr int kPoints = 7;
constexpr int kGroupPixels = 4;  // Of a group in Winograd's product.
constexpr int kPhases = 2;
constexpr int kPhaseTaps = 4;

// B of Winograd's Y = A^T ((G g) * (B^T d)), transposed, for d neighbours.
constexpr float kInputTransform[kPoints][kPoints] = {
    {-0.5f, 0.25f, 2.5f, -1.25f, -2.0f, 1.0f, 0.0f}, {0.0f, 0.5f, 0.25f, -2.25f, -1.0f, 1.0f, 0.0f},
    {0.0f, -0.5f, 0.75f, 1.75f, -3.0f, 1.0f, 0.0f},  {0.0f, 1.0f, 1.5f, -2.0f, -1.5f, 1.0f, 0.0f},
    {0.0f, -1.0f, 2.5f, 0.0f, -2.5f, 1.0f, 0.0f},    {0.0f, 0.25f, 0.0f, -1.25f, 0.0f, 1.0f, 0.0f},
    {0.0f, -0.5f, 0.25f, 2.5f, -1.25f, -2.0f, 1.0f},
};
// G, for the taps of a phase.
constexpr double kFilterTransform[kPoints][kPhaseTaps] = {
    {-2.0, 0.0, 0.0, 0.0},
    {-2.0 / 3, -2.0 / 3, -2.0 / 3, -2.0 / 3},
    {-2.0 / 9, 2.0 / 9, -2.0 / 9, 2.0 / 9},
    {16.0 / 9, 8.0 / 9, 4.0 / 9, 2.0 / 9},
    {16.0 / 15, -8.0 / 15, 4.0 / 15, -2.0 / 15},
    {2.0 / 45, 4.0 / 45, 8.0 / 45, 16.0 / 45},
    {0.0, 0.0, 0.0, 1.0},
};
// The point 1 adds the same to all outputs of a group: its sums begin with the bias.
constexpr int kBiasPoint = 1;

// How a convolution is cut into tiles and laid out.
struct ConvPlan {
  bool winograd;
  int points;
  int vectors;  // Of a block of filters.
  int block_channels;
  int channels_out;     // Of a group of channels.
  int blocks;           // Likewise.
  int depth;            // Products of a sum and a filter row.
  int run;              // As many of them are neighbours in a prepared row.
  size_t run_stride;    // From a run to the next one.
  int groups;           // Of an output row, as many as whole tiles have.
  size_t group_stride;  // In a prepared row.
  size_t plane;         // Floats of a prepared row and point.
  size_t block_weights;
};

ConvPlan MakePlan(const ConvShape& shape) {
  const Window& window = shape.window;
  ConvPlan plan = {};
  plan.winograd = window.filter_w == 7 && window.stride_w == 2 && shape.groups == 1;
  plan.points = plan.winograd ? kPoints : 1;
  plan.channels_out = shape.channels_out / shape.groups;
  plan.vectors = 1;
  while (plan.vectors < Vector::kMaxVectors && plan.vectors * Vector::kLanes < plan.channels_out) {
    plan.vectors *= 2;
  }
  plan.block_channels = plan.vectors * Vector::kLanes;
  plan.blocks = DivideUp(plan.channels_out, plan.block_channels);
  const int groups = DivideUp(window.out_w, plan.winograd ? kGroupPixels : 1);
  plan.groups = DivideUp(groups, Vector::kTileGroups) * Vector::kTileGroups;
  if (plan.winograd) {
    plan.depth = kPhases * shape.channels_in;
    plan.group_stride = plan.depth;
    // A vector is stored for each group, whose last lanes the next one overwrites.
    plan.plane = plan.groups * plan.group_stride + Vector::kLanes;
  } else {
    plan.depth = window.filter_w * (shape.channels_in / shape.groups);
    plan.group_stride = static_cast<size_t>(window.stride_w) * shape.channels_in;
    plan.plane = (plan.groups - 1) * plan.group_stride +
                 static_cast<size_t>(window.filter_w) * shape.channels_in;
  }
  plan.run = shape.groups == 1 ? plan.depth : shape.channels_in / shape.groups;
  plan.run_stride = shape.channels_in;
  plan.block_weights =
      static_cast<size_t>(plan.points) * window.filter_h * plan.depth * plan.block_channels;
  return plan;
}

int BlockCount(const ConvShape& shape) { return MakePlan(shape).blocks * shape.groups; }

// Blocks of (points, filter_h, depth, block_channels), then the bias.
size_t WeightFloats(const ConvShape& shape) {
  const ConvPlan plan = MakePlan(shape);
  return BlockCount(shape) * (plan.block_weights + plan.block_channels);
}

// G g of one phase, channel and row of a filter, rounded once.
float TransformedTap(const ConvShape& shape, const float* filter_row, int point, int depth) {
  const int phase = depth / shape.channels_in;
  double sum = 0;
  for (int tap = 0; tap < kPhaseTaps; ++tap) {
    const int column = kPhases * tap + phase;
    if (column >= shape.window.filter_w) break;
    sum += kFilterTransform[point][tap] *
           filter_row[column * shape.channels_in + depth % shape.channels_in];
  }
  return static_cast<float>(sum);
}

void Pack(const ConvShape& shape, const float* filter, const float* bias, float* weights) {
  const ConvPlan plan = MakePlan(shape);
  const Window& window = shape.window;
  const size_t filter_row =
      static_cast<size_t>(window.filter_w) * (shape.channels_in / shape.groups);
  std::fill_n(weights, WeightFloats(shape), 0.0f);
  float* const biases = weights + BlockCount(shape) * plan.block_weights;
  for (int o = 0; o < shape.channels_out; ++o) {
    const int in_group = o % plan.channels_out;
    const int block = o / plan.channels_out * plan.blocks + in_group / plan.block_channels;
    const int in_block = in_group % plan.block_channels;
    biases[block * plan.block_channels + in_block] = bias[o];
    float* out = weights + block * plan.block_weights + in_block;
    for (int point = 0; point < plan.points; ++point) {
      for (int fy = 0; fy < window.filter_h; ++fy) {
        const float* row = filter + (static_cast<size_t>(o) * window.filter_h + fy) * filter_row;
        for (int i = 0; i < plan.depth; ++i, out += plan.block_channels) {
          *out = plan.winograd ? TransformedTap(shape, row, point, i) : row[i];
        }
      }
    }
  }
}

size_t RowFloats(const ConvShape& shape) {
  const ConvPlan plan = MakePlan(shape);
  return plan.points * plan.plane;
}

// Floats of a padded input row that the groups of Winograd's product look at.
size_t PaddedFloats(const ConvPlan& plan) {
  return static_cast<size_t>(plan.groups * kGroupPixels + kPoints - kGroupPixels) * plan.depth +
         Vector::kLanes;
}

// A padded row; for Winograd's product also the sums of a block for all points and groups.
size_t ScratchFloats(const ConvShape& shape) {
  const ConvPlan plan = MakePlan(shape);
  if (!plan.winograd) return 0;
  return std::max(PaddedFloats(plan),
                  static_cast<size_t>(kPoints) * plan.groups * plan.block_channels);
}

void PadRow(const ConvShape& shape, const float* input, float* padded, size_t count) {
  const size_t left =
      std::min(static_cast<size_t>(shape.window.pad_left) * shape.channels_in, count);
  const size_t inside =
      std::min(static_cast<size_t>(shape.window.in_w) * shape.channels_in, count - left);
  std::fill_n(padded, left, 0.0f);
  std::copy_n(input, inside, padded + left);
  std::fill_n(padded + left + inside, count - left - inside, 0.0f);
}

// B^T d for all groups, phases and channels. In the padded row neighbours of one phase and channel
// are `depth` apart.
BIREAL_TARGET void TransformRow(const ConvPlan& plan, const float* padded, float* row) {
  for (int group = 0; group < plan.groups; ++group) {
    for (int first = 0; first < plan.depth; first += Vector::kLanes) {
      const float* in = padded + static_cast<size_t>(group) * kGroupPixels * plan.depth + first;
      float* out = row + group * plan.group_stride + first;
      Type d[kPoints];
#pragma GCC unroll 7
      for (int i = 0; i < kPoints; ++i) d[i] = Vector::Load(in + i * plan.depth);
#pragma GCC unroll 7
      for (int point = 0; point < kPoints; ++point) {
        Type sum = Vector::Broadcast(0.0f);
#pragma GCC unroll 7
        for (int i = 0; i < kPoints; ++i) {
          const float b = kInputTransform[point][i];
          if (b != 0.0f) sum = Vector::MultiplyAdd(Vector::Broadcast(b), d[i], sum);
        }
        Vector::Store(out + point * plan.plane, sum);
      }
    }
  }
}

void PrepareRow(const ConvShape& shape, const float* input, float* scratch, float* row) {
  const ConvPlan plan = MakePlan(shape);
  if (!plan.winograd) return PadRow(shape, input, row, plan.plane);
  PadRow(shape, input, scratch, PaddedFloats(plan));
  TransformRow(plan, scratch, row);
}

// Adds the products of a tile's groups and a block of filters, row by row, to the sums. `kRuns`:
// whether a row is several runs. `kBlockVectors`: of the block's weights, which may have more
// filters than the tile.
template <bool kRuns, int kBlockVectors, int kGroups, int kVectors>
BIREAL_TARGET_INLINE void Multiply(const float* const* rows, int row_count, size_t offset,
                                   const ConvPlan& plan, const float* weights,
                                   Type (&sum)[kGroups][kVectors]) {
  const size_t group_stride = plan.group_stride;
  const int length = kRuns ? plan.run : plan.depth;
  const int runs = kRuns ? plan.depth / length : 1;
  for (int row = 0; row < row_count; ++row) {
    for (int run = 0; run < runs; ++run) {
      const float* x = rows[row] + offset + run * plan.run_stride;
      for (int i = 0; i < length; ++i, ++x, weights += kBlockVectors * Vector::kLanes) {
        Type w[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          w[v] = Vector::Load(weights + v * Vector::kLanes);
          Vector::Pin(w[v]);
        }
#pragma GCC unroll 6
        for (int g = 0; g < kGroups; ++g) {
          const Type value = Vector::Broadcast(x[g * group_stride]);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            sum[g][v] = Vector::MultiplyAdd(value, w[v], sum[g][v]);
          }
        }
      }
    }
  }
}

// What becomes of the sums of a pixel and a block of filters.
struct Finish {
  bool relu;
  int channels;  // Of the block, which may be less than it has room for.
};

template <int kVectors>
BIREAL_TARGET_INLINE void StorePixel(const Finish& finish, Type (&sum)[kVectors], float* out) {
  if (finish.relu) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = Vector::Max(sum[v], Vector::Broadcast(0.0f));
  }
  if (finish.channels >= kVectors * Vector::kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) Vector::Store(out + v * Vector::kLanes, sum[v]);
  } else {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int left = finish.channels - v * Vector::kLanes;
      if (left > 0) Vector::StorePart(out + v * Vector::kLanes, sum[v], left);
    }
  }
}

template <bool kRuns, int kBlockVectors, int kGroups, int kVectors>
BIREAL_TARGET_INLINE void MultiplyTile(const float* const* rows, int row_count, size_t offset,
                                       const ConvPlan& plan, const float* weights,
                                       const float* bias, Type (&sum)[kGroups][kVectors]) {
#pragma GCC unroll 6
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[g][v] =
          bias != nullptr ? Vector::Load(bias + v * Vector::kLanes) : Vector::Broadcast(0.0f);
    }
  }
  Multiply<kRuns, kBlockVectors>(rows, row_count, offset, plan, weights, sum);
}

template <bool kRuns, int kVectors>
BIREAL_TARGET void DirectRow(const ConvShape& shape, const ConvPlan& plan, const float* weights,
                             const float* bias, const float* const* rows, int channel,
                             const Finish& finish, float* out) {
  for (int first = 0; first < shape.window.out_w; first += Vector::kTileGroups) {
    Type sum[Vector::kTileGroups][kVectors];
    const size_t offset = channel + first * plan.group_stride;
    MultiplyTile<kRuns, kVectors>(rows, shape.window.filter_h, offset, plan, weights, bias, sum);
#pragma GCC unroll 6
    for (int g = 0; g < Vector::kTileGroups; ++g) {
      if (first + g < shape.window.out_w) {
        StorePixel<kVectors>(finish, sum[g],
                             out + static_cast<size_t>(first + g) * shape.channels_out);
      }
    }
  }
}

// The sums of one point and all groups: products[group][channel]. The upper and the lower rows are
// summed on their own: the less is in a sum when a product is added, the less is rounded away, and
// Winograd's interpolation makes more of what was.
template <int kVectors>
BIREAL_TARGET void MultiplyPoint(const ConvShape& shape, const ConvPlan& plan, const float* weights,
                                 const float* bias, const float* const* rows, int point,
                                 float* products) {
  const int upper_rows = DivideUp(shape.window.filter_h, 2);
  const int lower_rows = shape.window.filter_h - upper_rows;
  const float* lower_weights =
      weights + static_cast<size_t>(upper_rows) * plan.depth * plan.block_channels;
  for (int first = 0; first < plan.groups; first += Vector::kTileGroups) {
    const size_t offset = point * plan.plane + first * plan.group_stride;
    Type upper[Vector::kTileGroups][kVectors];
    MultiplyTile<false, kVectors>(rows, upper_rows, offset, plan, weights,
                                  point == kBiasPoint ? bias : nullptr, upper);
    Type lower[Vector::kTileGroups][kVectors];
    MultiplyTile<false, kVectors>(rows + upper_rows, lower_rows, offset, plan, lower_weights,
                                  nullptr, lower);
#pragma GCC unroll 6
    for (int g = 0; g < Vector::kTileGroups; ++g) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v, products += Vector::kLanes) {
        Vector::Store(products, upper[g][v] + lower[g][v]);
      }
    }
  }
}

// factor * value + sum
BIREAL_TARGET_INLINE Type Scaled(float factor, Type value, Type sum) {
  return Vector::MultiplyAdd(Vector::Broadcast(factor), value, sum);
}

// A^T m for every group: interpolates.
template <int kVectors>
BIREAL_TARGET void InterpolateRow(const ConvShape& shape, const ConvPlan& plan,
                                  const float* products, const Finish& finish, float* out) {
  constexpr int kBlockChannels = kVectors * Vector::kLanes;
  const size_t point_stride = static_cast<size_t>(plan.groups) * kBlockChannels;
  for (int ox = 0; ox < shape.window.out_w; ox += kGroupPixels, products += kBlockChannels) {
    Type y[kGroupPixels][kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Type m[kPoints];
#pragma GCC unroll 7
      for (int point = 0; point < kPoints; ++point) {
        m[point] = Vector::Load(products + point * point_stride + v * Vector::kLanes);
      }
      const Type sum1 = m[1] + m[2];
      const Type difference1 = m[1] - m[2];
      const Type sum2 = m[3] + m[4];
      const Type difference2 = m[3] - m[4];
      y[0][v] = ((m[0] + sum1) + sum2) + m[5];
      y[1][v] = Scaled(2.0f, m[5], Scaled(0.5f, difference2, difference1));
      y[2][v] = Scaled(4.0f, m[5], Scaled(0.25f, sum2, sum1));
      y[3][v] = Scaled(8.0f, m[5], Scaled(0.125f, difference2, difference1)) + m[6];
    }
#pragma GCC unroll 4
    for (int p = 0; p < kGroupPixels; ++p) {
      if (ox + p < shape.window.out_w) {
        StorePixel<kVectors>(finish, y[p], out + static_cast<size_t>(ox + p) * shape.channels_out);
      }
    }
  }
}

template <int kVectors>
void ConvRowOf(const ConvShape& shape, const ConvPlan& plan, const float* weights,
               const float* const* rows, float* scratch, float* out) {
  const int blocks = plan.blocks * shape.groups;
  const float* bias = weights + blocks * plan.block_weights;
  for (int block = 0; block < blocks; ++block) {
    const int group = block / plan.blocks;
    const int first = block % plan.blocks * plan.block_channels;
    const Finish finish = {shape.relu, plan.channels_out - first};
    float* const block_out = out + group * plan.channels_out + first;
    if (plan.winograd) {
      const size_t point_weights = plan.block_weights / kPoints;
      const size_t point_products = static_cast<size_t>(plan.groups) * plan.block_channels;
      for (int point = 0; point < kPoints; ++point) {
        MultiplyPoint<kVectors>(shape, plan, weights + point * point_weights, bias, rows, point,
                                scratch + point * point_products);
      }
      InterpolateRow<kVectors>(shape, plan, scratch, finish, block_out);
    } else {
      const int channel = group * (shape.channels_in / shape.groups);
      const auto direct_row =
          plan.run == plan.depth ? DirectRow<false, kVectors> : DirectRow<true, kVectors>;
      direct_row(shape, plan, weights, bias, rows, channel, finish, block_out);
    }
    weights += plan.block_weights;
    bias += plan.block_channels;
  }
}

void ConvRow(const ConvShape& shape, const float* weights, const float* const* rows, float* scratch,
             float* out) {
  const ConvPlan plan = MakePlan(shape);
  const auto conv_row = plan.vectors == 1   ? ConvRowOf<1>
                        : plan.vectors == 2 ? ConvRowOf<std::min(2, Vector::kMaxVectors)>
                                            : ConvRowOf<Vector::kMaxVectors>;
  conv_row(shape, plan, weights, rows, scratch, out);
}

// The pixels from `first` on of a block of filters, as many as a tile has groups.
template <int kBlockVectors, int kGroups, int kVectors>
BIREAL_TARGET void PixelTile(const ConvShape& shape, const ConvPlan& plan, const float* weights,
                             const float* bias, const Finish& finish, const float* in, int first,
                             float* out) {
  Type sum[kGroups][kVectors];
  MultiplyTile<false, kBlockVectors>(&in, 1, first * plan.group_stride, plan, weights, bias, sum);
#pragma GCC unroll 6
  for (int g = 0; g < kGroups; ++g) {
    StorePixel<kVectors>(finish, sum[g], out + static_cast<size_t>(first + g) * shape.channels_out);
  }
}

template <int kBlockVectors, int kVectors>
void ConvPixelsOf(const ConvShape& shape, const ConvPlan& plan, const float* weights, int block,
                  const float* in, int pixels, float* out) {
  const float* bias = weights + plan.blocks * plan.block_weights + block * plan.block_channels;
  weights += block * plan.block_weights;
  const int channel = block * plan.block_channels;
  const Finish finish = {shape.relu, shape.channels_out - channel};
  out += channel;
  if (pixels < Vector::kTileGroups) {
    for (int pixel = 0; pixel < pixels; ++pixel) {
      PixelTile<kBlockVectors, 1, kVectors>(shape, plan, weights, bias, finish, in, pixel, out);
    }
    return;
  }
  for (int first = 0; first < pixels; first += Vector::kTileGroups) {
    // The last tile computes some pixels again, so that no tile reads beyond the input.
    const int begin = std::min(first, pixels - Vector::kTileGroups);
    PixelTile<kBlockVectors, Vector::kTileGroups, kVectors>(shape, plan, weights, bias, finish, in,
                                                            begin, out);
  }
}

void ConvPixels(const ConvShape& shape, const float* weights, int block, const float* in,
                int pixels, float* out) {
  constexpr int kMax = Vector::kMaxVectors;
  constexpr int kTwo = std::min(2, kMax);
  const ConvPlan plan = MakePlan(shape);
  // The last block may be filled in part.
  const int vectors = DivideUp(shape.channels_out - block * plan.block_channels, Vector::kLanes);
  const auto conv_pixels = plan.vectors == 1   ? ConvPixelsOf<1, 1>
                           : plan.vectors == 2 ? ConvPixelsOf<kTwo, kTwo>
                           : vectors == 1      ? ConvPixelsOf<kMax, 1>
                           : vectors == 2      ? ConvPixelsOf<kMax, kTwo>
                           : vectors == 3      ? ConvPixelsOf<kMax, std::min(3, kMax)>
                                               : ConvPixelsOf<kMax, kMax>;
  conv_pixels(shape, plan, weights, block, in, pixels, out);
}

}  // namespace
}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_FLOAT_CONV_H_
