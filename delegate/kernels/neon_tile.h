// What becomes of the sums of a tile in NEON, which both kernels have in 16-bit lanes.
#ifndef BIREAL_DELEGATE_KERNELS_NEON_TILE_H_
#define BIREAL_DELEGATE_KERNELS_NEON_TILE_H_

#include <arm_neon.h>

#include <algorithm>

#include "delegate/kernels/bconv_tile.h"

namespace bireal {
namespace {

// A tile is at most four output pixels by one block of filters: 16 vectors of sums.
constexpr int kSumLanes = 8;
constexpr int kSumVectors = 4;
constexpr int kBlockFilters = kSumVectors * kSumLanes;
constexpr int kFloatLanes = 4;

template <int kPixels>
using Sums = uint16x8_t[kPixels][kSumVectors];

// Twice the lower or the upper half of a vector of sums.
template <int kHalf>
inline int32x4_t Doubled(uint16x8_t sums) {
  return vreinterpretq_s32_u32(kHalf == 0 ? vshll_n_u16(vget_low_u16(sums), 1)
                                          : vshll_high_n_u16(sums, 1));
}

// Writes counts, for each pixel `odd` plus twice the sums.
template <int kPixels>
inline void StoreCounts(const uint16x8_t (*sums)[kSumVectors], const int32_t* odd,
                        const RowOutput& output, const TilePosition& position) {
  int32_t* t = output.t + position.pixel * output.channels + position.channel;
  const bool whole = position.channels_left >= kBlockFilters;
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p, t += output.channels) {
    int32_t block[kBlockFilters];
    int32_t* counts = whole ? t : block;
    const int32x4_t rest = vdupq_n_s32(odd[p]);
#pragma GCC unroll 4
    for (int v = 0; v < kSumVectors; ++v, counts += kSumLanes) {
      vst1q_s32(counts, vaddq_s32(Doubled<0>(sums[p][v]), rest));
      vst1q_s32(counts + kFloatLanes, vaddq_s32(Doubled<1>(sums[p][v]), rest));
    }
    if (!whole) std::copy_n(block, position.channels_left, t);
  }
}

// Writes floats and signs of whole words, where counts are twice the sums.
//
// The lanes of a pixel's `negative` collect the signs of its vectors, four equal bits for each:
// what is there moves down as those of the next vector come in from above. In the end a lane keeps
// one of each four.
template <bool kClamp, bool kResidual, bool kRelu, int kPixels>
inline void StoreFloats(const uint16x8_t (*sums)[kSumVectors], const RowOutput& output,
                        const TilePosition& position) {
  // Copies: what a reference leads to might change with each value that is stored, and would be
  // loaded again.
  const Affine affine = output.affine;
  const ptrdiff_t pixel_stride = output.channels;
  const size_t first = position.pixel * pixel_stride + position.channel;
  const float* shortcut = kResidual ? output.residual.shortcut + first : nullptr;
  float* values = output.values + first;
  uint32x4_t negative[kPixels] = {};
#pragma GCC unroll 4
  for (int v = 0; v < kSumVectors; ++v) {
    const float* multipliers = affine.multiplier + position.channel + v * kSumLanes;
    const float* biases = affine.bias + position.channel + v * kSumLanes;
    const float32x4_t multiplier[] = {vld1q_f32(multipliers), vld1q_f32(multipliers + kFloatLanes)};
    const float32x4_t bias[] = {vld1q_f32(biases), vld1q_f32(biases + kFloatLanes)};
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) {
      // Both halves side by side, for CPUs that execute in order and wait for results.
      int32x4_t t[] = {Doubled<0>(sums[p][v]), Doubled<1>(sums[p][v])};
      if (kClamp) {
        for (int i = 0; i < 2; ++i) t[i] = vminq_s32(t[i], vdupq_n_s32(affine.clamp_max));
        for (int i = 0; i < 2; ++i) t[i] = vmaxq_s32(t[i], vdupq_n_s32(affine.clamp_min));
      }
      // Rounded twice, as everywhere: never vfmaq.
      float32x4_t y[2];
      for (int i = 0; i < 2; ++i) y[i] = vcvtq_f32_s32(t[i]);
      for (int i = 0; i < 2; ++i) y[i] = vmulq_f32(y[i], multiplier[i]);
      for (int i = 0; i < 2; ++i) y[i] = vaddq_f32(y[i], bias[i]);
      for (int i = 0; i < 2 && kResidual; ++i) {
        y[i] = vaddq_f32(y[i],
                         vld1q_f32(shortcut + p * pixel_stride + v * kSumLanes + i * kFloatLanes));
      }
      for (int i = 0; i < 2; ++i) {
        const uint32x4_t signs = vcltzq_f32(y[i]);
        if (kRelu) {
          // vmaxq would make a -0.0 a 0.0.
          y[i] = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y[i]), signs));
        } else {
          negative[p] = vsriq_n_u32(signs, negative[p], kBitsPerWord * kFloatLanes / kBlockFilters);
        }
        vst1q_f32(values + p * pixel_stride + v * kSumLanes + i * kFloatLanes, y[i]);
      }
    }
  }
  if (output.signs == nullptr) return;
  uint32_t* signs = output.signs + first / kBitsPerWord;
  const uint32_t kLaneBits[] = {0x11111111, 0x22222222, 0x44444444, 0x88888888};
  const uint32x4_t lane_bits = vld1q_u32(kLaneBits);
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) {
    signs[p * pixel_stride / kBitsPerWord] = vaddvq_u32(vandq_u32(negative[p], lane_bits));
  }
}

}  // namespace
}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_NEON_TILE_H_
