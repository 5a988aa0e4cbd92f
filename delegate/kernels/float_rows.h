// The functions of FloatKernel other than convolutions, row by row: pools, depthwise convolutions,
// and what is done to each value or channel. In terms of `Vector`, which float_conv.h explains.
#ifndef BIREAL_DELEGATE_KERNELS_FLOAT_ROWS_H_
#define BIREAL_DELEGATE_KERNELS_FLOAT_ROWS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "delegate/kernels/bits.h"
#include "delegate/kernels/float_conv.h"
#include "delegate/kernels/float_ops.h"
#include "delegate/kernels/taps.h"

namespace bireal {
namespace {

// x, or with a factor and a summand for each channel x * factor + summand, rounded after each.
template <bool kScales, typename Value>
BIREAL_TARGET_INLINE Value Scale(Value x, Value factor, Value summand) {
  if constexpr (!kScales) return x;
  const Value product = x * factor;
  return product + summand;
}

// `share` times the sum of `columns` pixels in each of `rows` rows, in vectors of channels side by
// side, since an addition waits for the one before it. Rows are summed apart: of a map of 56x56 the
// mean is ten times more exact than by one sum over all of it, which the sigmoids of gates show.
template <bool kScales, int kVectors>
BIREAL_TARGET_INLINE void AverageVectors(const float* pixel, size_t row_floats, int channels,
                                         int rows, int columns, const ChannelScale& scale,
                                         float share, int c, float* out) {
  Type factor[kVectors];
  Type summand[kVectors];
  Type sum[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int first = c + v * Vector::kLanes;
    sum[v] = Vector::Broadcast(0.0f);
    factor[v] = kScales ? Vector::Load(scale.factors + first) : sum[v];
    summand[v] = kScales ? Vector::Load(scale.summands + first) : sum[v];
  }
  for (int row = 0; row < rows; ++row) {
    const float* in = pixel + row * row_floats + c;
    Type row_sum[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row_sum[v] = Vector::Broadcast(0.0f);
    for (int i = 0; i < columns; ++i, in += channels) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Type x = Vector::Load(in + v * Vector::kLanes);
        row_sum[v] = row_sum[v] + Scale<kScales>(x, factor[v], summand[v]);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] = sum[v] + row_sum[v];
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    Vector::Store(out + c + v * Vector::kLanes,
                  Vector::MultiplyAdd(Vector::Broadcast(share), sum[v], Vector::Broadcast(0.0f)));
  }
}

template <bool kScales>
BIREAL_TARGET void AverageRowOf(const Window& window, int channels, const ChannelScale& scale,
                                float share, const float* image, int out_y, float* out) {
  constexpr int kVectors = 4;
  const Taps rows = RowsInside(window, out_y);
  const size_t row_floats = static_cast<size_t>(window.in_w) * channels;
  const ptrdiff_t top = static_cast<ptrdiff_t>(out_y) * window.stride_h - window.pad_top;
  const float* first_row = image + (top + rows.begin) * row_floats;
  const bool is_average = share == 0.0f;
  for (int ox = 0; ox < window.out_w; ++ox, out += channels) {
    const Taps columns = ColumnsInside(window, ox);
    const ptrdiff_t left = static_cast<ptrdiff_t>(ox) * window.stride_w - window.pad_left;
    const float* pixel = first_row + (left + columns.begin) * channels;
    if (is_average) share = 1.0f / (static_cast<float>(rows.count()) * columns.count());
    int c = 0;
    for (; c + kVectors * Vector::kLanes <= channels; c += kVectors * Vector::kLanes) {
      AverageVectors<kScales, kVectors>(pixel, row_floats, channels, rows.count(), columns.count(),
                                        scale, share, c, out);
    }
    for (; c + Vector::kLanes <= channels; c += Vector::kLanes) {
      AverageVectors<kScales, 1>(pixel, row_floats, channels, rows.count(), columns.count(), scale,
                                 share, c, out);
    }
    for (; c < channels; ++c) {
      const float factor = kScales ? scale.factors[c] : 1.0f;
      const float summand = kScales ? scale.summands[c] : 0.0f;
      float sum = 0;
      for (int row = 0; row < rows.count(); ++row) {
        const float* in = pixel + row * row_floats + c;
        float row_sum = 0;
        for (int i = 0; i < columns.count(); ++i, in += channels) {
          row_sum += Scale<kScales>(*in, factor, summand);
        }
        sum += row_sum;
      }
      out[c] = std::fma(share, sum, 0.0f);
    }
  }
}

void AverageRow(const Window& window, int channels, const ChannelScale& scale, float share,
                const float* image, int out_y, float* out) {
  const auto average_row = scale.factors != nullptr ? AverageRowOf<true> : AverageRowOf<false>;
  average_row(window, channels, scale, share, image, out_y, out);
}

BIREAL_TARGET void DepthwiseRow(const Window& window, int channels, const float* image, int out_y,
                                const float* weights, float* out) {
  const Taps rows = RowsInside(window, out_y);
  const size_t row_floats = static_cast<size_t>(window.in_w) * channels;
  const size_t filter_row = static_cast<size_t>(window.filter_w) * channels;
  const ptrdiff_t top = static_cast<ptrdiff_t>(out_y) * window.stride_h - window.pad_top;
  const float* first_row = image + (top + rows.begin) * row_floats;
  const float* bias = weights + window.filter_h * filter_row;
  for (int ox = 0; ox < window.out_w; ++ox, out += channels) {
    const Taps columns = ColumnsInside(window, ox);
    const ptrdiff_t left = static_cast<ptrdiff_t>(ox) * window.stride_w - window.pad_left;
    const float* pixel = first_row + (left + columns.begin) * channels;
    const float* filter =
        weights + rows.begin * filter_row + static_cast<size_t>(columns.begin) * channels;
    int c = 0;
    for (; c + Vector::kLanes <= channels; c += Vector::kLanes) {
      Type sum = Vector::Load(bias + c);
      for (int row = 0; row < rows.count(); ++row) {
        const float* in = pixel + row * row_floats + c;
        const float* w = filter + row * filter_row + c;
        for (int i = 0; i < columns.count(); ++i, in += channels, w += channels) {
          sum = Vector::MultiplyAdd(Vector::Load(in), Vector::Load(w), sum);
        }
      }
      Vector::Store(out + c, sum);
    }
    for (; c < channels; ++c) {
      float sum = bias[c];
      for (int row = 0; row < rows.count(); ++row) {
        const float* in = pixel + row * row_floats + c;
        const float* w = filter + row * filter_row + c;
        for (int i = 0; i < columns.count(); ++i, in += channels, w += channels) {
          sum = std::fma(*in, *w, sum);
        }
      }
      out[c] = sum;
    }
  }
}

// e^x for x <= 0, by x = n * ln(2) + r and the Taylor polynomial of e^r, |r| <= ln(2) / 2, whose
// first term that is left out, r^8 / 8!, is below 6e-9.
BIREAL_TARGET_INLINE float Exp(float x) {
  // Below it, the result is less than the least normal number.
  constexpr float kLeast = -87.0f;
  constexpr float kInverseLog2 = 1.44269504f;
  // ln(2) in two parts, of which the first has so few digits that n times it is exact.
  constexpr float kLog2High = 0.693359375f;
  constexpr float kLog2Low = -2.12194440e-4f;
  // The sum has no digits after the point.
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
  if (!(x >= kLeast)) return x < kLeast ? 0.0f : x;
  const float n = std::fma(x, kInverseLog2, kRound) - kRound;
  const float r = std::fma(n, -kLog2Low, std::fma(n, -kLog2High, x));
  float sum = 1.0f / 5040;
  for (const float coefficient : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    sum = std::fma(sum, r, coefficient);
  }
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return sum * power;
}

BIREAL_TARGET void Softmax(const float* in, int count, float beta, float* out) {
  float max = in[0];
  for (int i = 1; i < count; ++i) max = in[i] > max ? in[i] : max;
  double sum = 0;  // A thousand floats, one after the other, would lose a digit.
  for (int i = 0; i < count; ++i) {
    out[i] = Exp((in[i] - max) * beta);
    sum += static_cast<double>(out[i]);
  }
  const auto divisor = static_cast<float>(sum);
  for (int i = 0; i < count; ++i) out[i] /= divisor;
}

// Neither branch has the exponential of a positive number, which might be infinite.
BIREAL_TARGET void Logistic(const float* in, int count, float* out) {
  for (int i = 0; i < count; ++i) {
    const float power = Exp(in[i] < 0.0f ? in[i] : -in[i]);
    out[i] = (in[i] < 0.0f ? power : 1.0f) / (1.0f + power);
  }
}

template <ChannelOp kOp>
BIREAL_TARGET_INLINE Type Combine(Type x, Type operand) {
  if constexpr (kOp == ChannelOp::kAdd) return x + operand;
  if constexpr (kOp == ChannelOp::kMultiply) return x * operand;
  if constexpr (kOp == ChannelOp::kPrelu) return Vector::IfNegative(x, x * operand, x);
  return Vector::IfNegative(x, Vector::Broadcast(0.0f), x);
}

// `operand` may be null for an operator without one.
template <ChannelOp kOp>
BIREAL_TARGET void CombineRow(const float* in, size_t in_stride, size_t pixels, int channels,
                              const float* operand, size_t operand_stride, float* out) {
  constexpr bool kHasOperand = kOp != ChannelOp::kRelu;
  for (size_t pixel = 0; pixel < pixels; ++pixel, in += in_stride, out += channels) {
    int c = 0;
    for (; c + Vector::kLanes <= channels; c += Vector::kLanes) {
      const Type x = Vector::Load(in + c);
      Vector::Store(out + c, Combine<kOp>(x, kHasOperand ? Vector::Load(operand + c) : x));
    }
    // With one lane there is no rest, which GCC 14 does not see by itself.
    if (const int rest = channels - c; Vector::kLanes > 1 && rest > 0) {
      float x[Vector::kLanes] = {};
      float other[Vector::kLanes] = {};
      std::copy_n(in + c, rest, x);
      if (kHasOperand) std::copy_n(operand + c, rest, other);
      Vector::Store(x, Combine<kOp>(Vector::Load(x), Vector::Load(other)));
      std::copy_n(x, rest, out + c);
    }
    if (kHasOperand) operand += operand_stride;
  }
}

void CombineChannels(ChannelOp op, const float* in, size_t in_stride, size_t pixels, int channels,
                     const float* operand, size_t operand_stride, float* out) {
  constexpr decltype(&CombineRow<ChannelOp::kAdd>) kRows[] = {
      CombineRow<ChannelOp::kAdd>, CombineRow<ChannelOp::kMultiply>, CombineRow<ChannelOp::kPrelu>,
      CombineRow<ChannelOp::kRelu>};
  kRows[static_cast<int>(op)](in, in_stride, pixels, channels, operand, operand_stride, out);
}

// Of a few pixels at a time, for which factors and summands are loaded once.
template <int kPixels>
BIREAL_TARGET_INLINE void PackScaledPixels(const float* in, size_t in_stride, int channels,
                                           const ChannelScale& scale, uint32_t* signs) {
  const size_t words = WordsFor(channels);
  for (int first = 0; first < channels; first += kBitsPerWord, ++signs) {
    const int count = std::min(kBitsPerWord, channels - first);
    uint32_t word[kPixels] = {};
    int bit = 0;
    for (; bit + Vector::kLanes <= count; bit += Vector::kLanes) {
      const Type factor = Vector::Load(scale.factors + first + bit);
      const Type summand = Vector::Load(scale.summands + first + bit);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        const Type x = Vector::Load(in + p * in_stride + first + bit);
        word[p] |= Vector::Negative(Scale<true>(x, factor, summand)) << bit;
      }
    }
    for (; bit < count; ++bit) {
      const int c = first + bit;
      for (int p = 0; p < kPixels; ++p) {
        const float x = Scale<true>(in[p * in_stride + c], scale.factors[c], scale.summands[c]);
        word[p] |= static_cast<uint32_t>(x < 0.0f) << bit;
      }
    }
    for (int p = 0; p < kPixels; ++p) signs[p * words] = word[p];
  }
}

BIREAL_TARGET void PackScaled(const float* in, size_t in_stride, size_t pixels, int channels,
                              const ChannelScale& scale, uint32_t* signs) {
  constexpr size_t kPixels = 4;
  const size_t words = WordsFor(channels);
  size_t pixel = 0;
  for (; pixel + kPixels <= pixels; pixel += kPixels) {
    PackScaledPixels<kPixels>(in + pixel * in_stride, in_stride, channels, scale,
                              signs + pixel * words);
  }
  for (; pixel < pixels; ++pixel) {
    PackScaledPixels<1>(in + pixel * in_stride, in_stride, channels, scale, signs + pixel * words);
  }
}

BIREAL_TARGET void MaxRow(const Window& window, int channels, const float* const* rows,
                          int row_count, float* out) {
  for (int ox = 0; ox < window.out_w; ++ox, out += channels) {
    const Taps columns = ColumnsInside(window, ox);
    const size_t x = static_cast<size_t>(ox) * window.stride_w - window.pad_left;
    int c = 0;
    for (; c + Vector::kLanes <= channels; c += Vector::kLanes) {
      Type max = Vector::Load(rows[0] + (x + columns.begin) * channels + c);
      for (int row = 0; row < row_count; ++row) {
        const float* in = rows[row] + (x + columns.begin) * channels + c;
        for (int i = 0; i < columns.count(); ++i, in += channels) {
          max = Vector::Max(max, Vector::Load(in));
        }
      }
      Vector::Store(out + c, max);
    }
    for (; c < channels; ++c) {
      float max = rows[0][(x + columns.begin) * channels + c];
      for (int row = 0; row < row_count; ++row) {
        const float* in = rows[row] + (x + columns.begin) * channels + c;
        for (int i = 0; i < columns.count(); ++i, in += channels) max = max > *in ? max : *in;
      }
      out[c] = max;
    }
  }
}

}  // namespace
}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_FLOAT_ROWS_H_
