// The functions of ByteKernel in terms of `Vector`, which an instruction set's file defines before
// it includes this one, in namespace bireal and a namespace without a name:
//
//   Value, Weight           what activations and weights are in memory
//   kGroup                  how many products a lane adds up at once
//   kOffset                 MultiplyAdd takes that off every value
//   Sums, kLanes            a vector of int32, and how many they are
//   LoadSums                of memory
//   Weights, LoadWeights    kLanes groups of weights
//   MultiplyAdd(x, w, sum)  the products of the group of values at x with each of the groups w,
//                           added to the sums
//   Floats, LoadFloats, StoreFloats, Broadcast, with + and *
//   Max(a, b), Min(a, b)    a > b ? a : b, a < b ? a : b
//   ToFloats(sums)          rounded
//   StoreRounded(floats, out, shift)  rounded, ties away from zero, plus an integer, as values
//   kTilePixels, kMaxVectors   a tile of sums: pixels by vectors of filters
//
// and BIREAL_TARGET, the attribute of functions that may use that instruction set.
#ifndef BIREAL_DELEGATE_KERNELS_BYTE_ROWS_H_
#define BIREAL_DELEGATE_KERNELS_BYTE_ROWS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "delegate/kernels/bits.h"
#include "delegate/kernels/byte_ops.h"

#define BIREAL_TARGET_INLINE BIREAL_TARGET __attribute__((always_inline)) inline

namespace bireal {
namespace {

using Value = Vector::Value;
using Weight = Vector::Weight;

// A block of filters: as many vectors of them as a tile has.
int VectorsOf(int channels_out) {
  int vectors = 1;
  while (vectors < Vector::kMaxVectors && vectors * Vector::kLanes < channels_out) vectors *= 2;
  return vectors;
}

int PaddedChannels(int channels_out) {
  const int block = VectorsOf(channels_out) * Vector::kLanes;
  return DivideUp(channels_out, block) * block;
}

int GroupsOf(const ByteShape& shape) { return DivideUp(shape.depth, Vector::kGroup); }

size_t WeightCount(const ByteShape& shape) {
  return static_cast<size_t>(PaddedChannels(shape.channels_out)) * shape.rows * GroupsOf(shape) *
         Vector::kGroup;
}

// The weights, then kOffset times the sum of each filter's.
size_t WeightBytes(const ByteShape& shape) {
  const size_t corrections =
      Vector::kOffset != 0 ? PaddedChannels(shape.channels_out) * sizeof(int32_t) : 0;
  return WeightCount(shape) * sizeof(Weight) + corrections;
}

const int32_t* CorrectionsOf(const ByteShape& shape, const void* weights) {
  return reinterpret_cast<const int32_t*>(static_cast<const char*>(weights) +
                                          WeightCount(shape) * sizeof(Weight));
}

// Blocks of (rows, groups, channels of the block, kGroup), with zeros after the last value of a row
// and the last channel.
void Pack(const ByteShape& shape, const int8_t* filter, void* weights) {
  const int block_channels = VectorsOf(shape.channels_out) * Vector::kLanes;
  const int groups = GroupsOf(shape);
  const size_t filter_size = static_cast<size_t>(shape.rows) * shape.depth;
  auto* out = static_cast<Weight*>(weights);
  for (int first = 0; first < shape.channels_out; first += block_channels) {
    for (int row = 0; row < shape.rows; ++row) {
      for (int group = 0; group < groups; ++group) {
        for (int o = first; o < first + block_channels; ++o) {
          for (int i = group * Vector::kGroup; i < (group + 1) * Vector::kGroup; ++i) {
            const bool is_inside = o < shape.channels_out && i < shape.depth;
            const size_t place = static_cast<size_t>(row) * shape.depth + i;
            *out++ = is_inside ? filter[o * filter_size + place] : Weight{0};
          }
        }
      }
    }
  }
  if (Vector::kOffset == 0) return;
  auto* corrections = const_cast<int32_t*>(CorrectionsOf(shape, weights));
  std::fill_n(corrections, PaddedChannels(shape.channels_out), 0);
  for (int o = 0; o < shape.channels_out; ++o) {
    for (size_t i = 0; i < filter_size; ++i) {
      corrections[o] += Vector::kOffset * filter[o * filter_size + i];
    }
  }
}

void Widen(const uint8_t* in, size_t count, void* values) {
  std::copy_n(in, count, static_cast<Value*>(values));
}

BIREAL_TARGET void ExtendRange(const float* in, size_t count, float* least, float* greatest) {
  size_t i = 0;
  if (count >= Vector::kLanes) {
    auto low = Vector::Broadcast(*least);
    auto high = Vector::Broadcast(*greatest);
    for (; i + Vector::kLanes <= count; i += Vector::kLanes) {
      const auto x = Vector::LoadFloats(in + i);
      low = Vector::Min(x, low);
      high = Vector::Max(x, high);
    }
    float lanes[2][Vector::kLanes];
    Vector::StoreFloats(lanes[0], low);
    Vector::StoreFloats(lanes[1], high);
    for (float lane : lanes[0]) *least = lane < *least ? lane : *least;
    for (float lane : lanes[1]) *greatest = lane > *greatest ? lane : *greatest;
  }
  for (; i < count; ++i) {
    *least = in[i] < *least ? in[i] : *least;
    *greatest = in[i] > *greatest ? in[i] : *greatest;
  }
}

BIREAL_TARGET void Quantize(const float* in, size_t count, float inverse_scale, int zero,
                            void* values) {
  constexpr int kShift = 128;
  const auto least = static_cast<float>(-128 - zero);
  const auto greatest = static_cast<float>(127 - zero);
  auto* out = static_cast<Value*>(values);
  size_t i = 0;
  for (; i + Vector::kLanes <= count; i += Vector::kLanes) {
    const auto x = Vector::LoadFloats(in + i) * Vector::Broadcast(inverse_scale);
    const auto clamped =
        Vector::Min(Vector::Max(x, Vector::Broadcast(least)), Vector::Broadcast(greatest));
    Vector::StoreRounded(clamped, out + i, zero + kShift);
  }
  for (; i < count; ++i) {
    const float x = in[i] * inverse_scale;
    const float clamped = x > least ? (x < greatest ? x : greatest) : least;
    out[i] = static_cast<Value>(static_cast<int>(std::round(clamped)) + zero + kShift);
  }
}

// The sums of kLanes channels, from `channel` on, as floats.
BIREAL_TARGET_INLINE Vector::Floats Finish(const ByteFinish& finish, int channel,
                                           Vector::Sums sum) {
  const Vector::Floats y = Vector::ToFloats(sum) * Vector::LoadFloats(finish.scale + channel) *
                               Vector::Broadcast(finish.input_scale) +
                           Vector::LoadFloats(finish.bias + channel);
  // 0 comes first, so that -0.0 stays.
  return finish.relu ? Vector::Max(Vector::Broadcast(0.0f), y) : y;
}

// The pixels from `first` on and a block of filters.
template <int kPixels, int kVectors>
BIREAL_TARGET void MultiplyTile(const ByteShape& shape, const Weight* weights, const int32_t* start,
                                const void* const* rows, int first, const ByteFinish& finish,
                                int first_channel, float* out) {
  Vector::Sums sum[kPixels][kVectors];
#pragma GCC unroll 6
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[p][v] = Vector::LoadSums(start + v * Vector::kLanes);
    }
  }
  const int groups = GroupsOf(shape);
  const size_t stride = shape.pixel_stride;
  for (int row = 0; row < shape.rows; ++row) {
    const Value* x = static_cast<const Value*>(rows[row]) + first * stride;
    for (int group = 0; group < groups; ++group, x += Vector::kGroup) {
      Vector::Weights w[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v, weights += Vector::kLanes * Vector::kGroup) {
        w[v] = Vector::LoadWeights(weights);
      }
#pragma GCC unroll 6
      for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sum[p][v] = Vector::MultiplyAdd(x + p * stride, w[v], sum[p][v]);
        }
      }
    }
  }
  constexpr int kBlockChannels = kVectors * Vector::kLanes;
  const int channels = std::min(shape.channels_out - first_channel, kBlockChannels);
  float block[kBlockChannels];  // Where not all of its channels are there.
#pragma GCC unroll 6
  for (int p = 0; p < kPixels; ++p) {
    float* const pixel = out + static_cast<size_t>(first + p) * shape.channels_out;
    float* const place = channels == kBlockChannels ? pixel : block;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int channel = v * Vector::kLanes;
      Vector::StoreFloats(place + channel, Finish(finish, first_channel + channel, sum[p][v]));
    }
    if (channels < kBlockChannels) std::copy_n(block, channels, pixel);
  }
}

template <int kVectors>
void MultiplyOf(const ByteShape& shape, const void* weights, const void* const* rows, int pixels,
                const ByteFinish& finish, float* out) {
  constexpr int kBlockChannels = kVectors * Vector::kLanes;
  constexpr int kTile = Vector::kTilePixels;
  const size_t block_weights =
      static_cast<size_t>(shape.rows) * GroupsOf(shape) * Vector::kGroup * kBlockChannels;
  const auto* block = static_cast<const Weight*>(weights);
  const int32_t* corrections = CorrectionsOf(shape, weights);
  for (int channel = 0; channel < shape.channels_out; channel += kBlockChannels) {
    int32_t start[kBlockChannels];
    for (int c = 0; c < kBlockChannels; ++c) {
      start[c] = finish.start[channel + c];
      if (Vector::kOffset != 0) start[c] += corrections[channel + c];
    }
    int first = 0;
    for (; first + kTile <= pixels; first += kTile) {
      MultiplyTile<kTile, kVectors>(shape, block, start, rows, first, finish, channel,
                                    out + channel);
    }
    for (; first < pixels; ++first) {
      MultiplyTile<1, kVectors>(shape, block, start, rows, first, finish, channel, out + channel);
    }
    block += block_weights;
  }
}

void Multiply(const ByteShape& shape, const void* weights, const void* const* rows, int pixels,
              const ByteFinish& finish, float* out) {
  const int vectors = VectorsOf(shape.channels_out);
  const auto multiply = vectors == 1   ? MultiplyOf<1>
                        : vectors == 2 ? MultiplyOf<std::min(2, Vector::kMaxVectors)>
                                       : MultiplyOf<Vector::kMaxVectors>;
  multiply(shape, weights, rows, pixels, finish, out);
}

}  // namespace
}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_BYTE_ROWS_H_
