// The tile of the nibble look-up in AVX2: two pairs of pixels by two vectors of 32 filters.
//
// Its 16-bit sums do not fit the registers beside those in bytes. They lie in the first-level cache
// until they are floats and signs.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "delegate/kernels/bconv_tile.h"
#include "delegate/kernels/kernels.h"
#include "delegate/kernels/lookup.h"
#include "delegate/kernels/x86.h"

// The instruction set belongs to these functions alone: nothing inline from elsewhere may be
// compiled with it, or the linker could keep that copy for every CPU.
#define BIREAL_AVX2 __attribute__((target("avx2")))

namespace bireal {
namespace {

constexpr int kVectors = 2;
constexpr int kVectorChannels = 32;
constexpr int kBlockChannels = kVectors * kVectorChannels;
constexpr int kFloats = 8;  // Of a vector.

// The 16-bit sums of a tile.
using Sums = uint16_t[kTilePixels][kBlockChannels];

BIREAL_AVX2 inline __m256i Table(uint16_t position) {
  const auto* tables = reinterpret_cast<const uint8_t*>(&kPairTables);
  return _mm256_broadcastsi128_si256(
      _mm_load_si128(reinterpret_cast<const __m128i*>(tables + position)));
}

BIREAL_AVX2 inline __m256i Load(const uint8_t* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

// Adds 32 bytes to 32 sums. Unpacking widens bytes 0-7 and 16-23 first, then 8-15 and 24-31;
// Order() below makes those the channels 0-15 and 16-31.
BIREAL_AVX2 inline void Widen(__m256i bytes, uint16_t* sums) {
  auto* out = reinterpret_cast<__m256i*>(sums);
  const __m256i zero = _mm256_setzero_si256();
  _mm256_store_si256(out,
                     _mm256_add_epi16(_mm256_load_si256(out), _mm256_unpacklo_epi8(bytes, zero)));
  _mm256_store_si256(
      out + 1, _mm256_add_epi16(_mm256_load_si256(out + 1), _mm256_unpackhi_epi8(bytes, zero)));
}

// Sums the counts of `kLookups` positions, at most three: fifteen fit half a byte.
template <int kPairs, int kLookups>
BIREAL_AVX2 inline void LookUp(const uint16_t* position, ptrdiff_t pair_stride,
                               const uint8_t* weights, __m256i sum[kPairs][kVectors]) {
  for (int i = 0; i < kLookups; ++i, ++position, weights += kBlockChannels) {
    for (int p = 0; p < kPairs; ++p) {
      const __m256i table = Table(position[p * pair_stride]);
      for (int v = 0; v < kVectors; ++v) {
        const __m256i counts = _mm256_shuffle_epi8(table, Load(weights + v * kVectorChannels));
        sum[p][v] = i == 0 ? counts : _mm256_add_epi8(sum[p][v], counts);
      }
    }
  }
}

template <int kPairs>
BIREAL_AVX2 void CountPairs(const TileInput& input, Sums& sums) {
  const __m256i low_half = _mm256_set1_epi8(0x0f);
  const uint8_t* weights = input.weights;
  std::memset(sums, 0, 2 * kPairs * sizeof(sums[0]));
  for (int run = 0; run < input.run_count; ++run) {
    const uint16_t* position = input.runs[run];
    for (int left = input.length; left > 0;) {
      // Bytewise: all that is counted, the right pixels' counts sixteenfold, modulo 256; and
      // the right pixels' counts.
      __m256i total[kPairs][kVectors];
      __m256i right[kPairs][kVectors];
      for (int p = 0; p < kPairs; ++p) {
        for (int v = 0; v < kVectors; ++v) total[p][v] = right[p][v] = _mm256_setzero_si256();
      }
      for (int room = std::min(left, kMaxLookups); room > 0;) {
        __m256i sum[kPairs][kVectors];
        int lookups = 1;
        if (room >= kLookupsPerNibbleSum) {
          lookups = kLookupsPerNibbleSum;
          LookUp<kPairs, kLookupsPerNibbleSum>(position, input.pair_stride, weights, sum);
        } else {
          LookUp<kPairs, 1>(position, input.pair_stride, weights, sum);
        }
        for (int p = 0; p < kPairs; ++p) {
          for (int v = 0; v < kVectors; ++v) {
            total[p][v] = _mm256_add_epi8(total[p][v], sum[p][v]);
            right[p][v] = _mm256_add_epi8(
                right[p][v], _mm256_and_si256(_mm256_srli_epi16(sum[p][v], 4), low_half));
          }
        }
        position += lookups;
        weights += lookups * kBlockChannels;
        left -= lookups;
        room -= lookups;
      }
      for (int p = 0; p < kPairs; ++p) {
        for (int v = 0; v < kVectors; ++v) {
          const __m256i sixteenfold = _mm256_slli_epi16(_mm256_and_si256(right[p][v], low_half), 4);
          Widen(_mm256_sub_epi8(total[p][v], sixteenfold), sums[2 * p] + v * kVectorChannels);
          Widen(right[p][v], sums[2 * p + 1] + v * kVectorChannels);
        }
      }
    }
  }
}

// Eight counts from 16-bit sums.
BIREAL_AVX2 inline __m256i Counts(const uint16_t* sums, __m256i correction) {
  const __m256i sum = _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(sums)));
  return _mm256_add_epi32(_mm256_add_epi32(sum, sum), correction);
}

template <int kPixels>
BIREAL_AVX2 void CountTile(const TileInput& input, const RowOutput& output,
                           const TilePosition& position) {
  alignas(32) Sums sums;
  CountPairs<DivideUp(kPixels, 2)>(input, sums);
  int32_t* t = output.t + position.pixel * output.channels + position.channel;
  const int channels = std::min(kBlockChannels, position.channels_left);
  for (int p = 0; p < kPixels; ++p, t += output.channels) {
    const __m256i correction = _mm256_set1_epi32(input.correction[p]);
    int c = 0;
    for (; c + kFloats <= channels; c += kFloats) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(t + c), Counts(sums[p] + c, correction));
    }
    for (; c < channels; ++c) t[c] = 2 * sums[p][c] + input.correction[p];
  }
}

// Of whole words of signs.
template <bool kClamp, bool kResidual, bool kRelu, int kPixels>
BIREAL_AVX2 void FloatTile(const TileInput& input, const RowOutput& output,
                           const TilePosition& position) {
  alignas(32) Sums sums;
  CountPairs<DivideUp(kPixels, 2)>(input, sums);
  const Affine affine = output.affine;
  const ptrdiff_t pixel_stride = output.channels;
  const size_t first = position.pixel * pixel_stride + position.channel;
  const float* shortcut = kResidual ? output.residual.shortcut + first : nullptr;
  float* values = output.values + first;
  // A vector's signs are a byte.
  auto* signs = reinterpret_cast<uint8_t*>(output.signs);
  if (signs != nullptr) signs += first / 8;
  const __m256i clamp_min = _mm256_set1_epi32(affine.clamp_min);
  const __m256i clamp_max = _mm256_set1_epi32(affine.clamp_max);
  const int channels = std::min(kBlockChannels, position.channels_left);
  for (int c = 0; c < channels; c += kFloats) {
    const __m256 multiplier = _mm256_loadu_ps(affine.multiplier + position.channel + c);
    const __m256 bias = _mm256_loadu_ps(affine.bias + position.channel + c);
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) {
      __m256i t = Counts(sums[p] + c, _mm256_set1_epi32(input.correction[p]));
      if (kClamp) t = _mm256_max_epi32(_mm256_min_epi32(t, clamp_max), clamp_min);
      __m256 y = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(t), multiplier), bias);
      const ptrdiff_t i = p * pixel_stride + c;
      if (kResidual) {
        y = _mm256_add_ps(y, _mm256_loadu_ps(shortcut + i));
        // Where one of the two is a NaN, the result is the second operand.
        if (kRelu) y = _mm256_max_ps(_mm256_setzero_ps(), y);
      }
      _mm256_storeu_ps(values + i, y);
      if (signs != nullptr) {
        const __m256 negative = _mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_LT_OQ);
        signs[i / 8] = static_cast<uint8_t>(_mm256_movemask_ps(negative));
      }
    }
  }
}

constexpr TileFunctions kCountTiles = {CountTile<1>, CountTile<2>, CountTile<3>, CountTile<4>};
template <bool kClamp, bool kResidual, bool kRelu>
struct FloatTiles {
  template <int kPixels>
  static constexpr TileFunction kTile = FloatTile<kClamp, kResidual, kRelu, kPixels>;
  static constexpr TileFunctions kTiles = {kTile<1>, kTile<2>, kTile<3>, kTile<4>};
};

int Order(int channel) {
  const int in_vector = channel % kVectorChannels;
  constexpr int kQuarter[] = {0, 2, 1, 3};  // Channels 8-15 are bytes 16-23, and the reverse.
  return channel - in_vector + kQuarter[in_vector / 8] * 8 + in_vector % 8;
}

constexpr LookupBlocks kBlocks = {kBlockChannels, Order};

size_t WeightBytes(const BconvShape& shape) { return LookupWeightBytes(shape, kBlocks); }

void Pack(const BconvShape& shape, const uint32_t* filter, uint8_t* weights) {
  LookupPack(shape, filter, kBlocks, weights);
}

void Accumulate(const BconvShape& shape, const BconvRow& row) {
  RowOutput output = {};
  output.channels = shape.channels_out;
  output.t = row.t;
  RunLookupTiles(shape, row, kBlocks, kCountTiles, output);
}

// Eight values from c on. `kResidual` is known when compiling, and so costs nothing when false.
template <bool kResidual>
BIREAL_AVX2 inline __m256 Values(const int32_t* t, const Affine& affine, const Residual& residual,
                                 const float* shortcut, int c) {
  __m256i count = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t + c));
  count = _mm256_min_epi32(count, _mm256_set1_epi32(affine.clamp_max));
  count = _mm256_max_epi32(count, _mm256_set1_epi32(affine.clamp_min));
  const __m256 scaled =
      _mm256_mul_ps(_mm256_cvtepi32_ps(count), _mm256_loadu_ps(affine.multiplier + c));
  __m256 y = _mm256_add_ps(scaled, _mm256_loadu_ps(affine.bias + c));
  if (kResidual) {
    y = _mm256_add_ps(y, _mm256_loadu_ps(shortcut + c));
    // Where one of the two is a NaN, the result is the second operand.
    if (residual.relu) y = _mm256_max_ps(_mm256_setzero_ps(), y);
  }
  return y;
}

template <bool kResidual>
BIREAL_AVX2 void StoreRows(const int32_t* t, int pixels, int channels, const Affine& affine,
                           const Residual& residual, float* values, uint32_t* signs) {
  const float* shortcut = residual.shortcut;
  for (int pixel = 0; pixel < pixels; ++pixel) {
    int c = 0;
    for (; c + kBitsPerWord <= channels; c += kBitsPerWord) {
      uint32_t word = 0;
      for (int i = 0; i < kBitsPerWord; i += kFloats) {
        const __m256 y = Values<kResidual>(t, affine, residual, shortcut, c + i);
        _mm256_storeu_ps(values + c + i, y);
        const __m256 negative = _mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_LT_OQ);
        word |= static_cast<uint32_t>(_mm256_movemask_ps(negative)) << i;
      }
      if (signs != nullptr) *signs++ = word;
    }
    if (c < channels) {
      const Affine rest = {affine.multiplier + c, affine.bias + c, affine.clamp_min,
                           affine.clamp_max};
      const Residual rest_residual = {kResidual ? shortcut + c : nullptr, residual.relu};
      PortableStoreFloat(t + c, 1, channels - c, rest, rest_residual, values + c, signs);
      if (signs != nullptr) ++signs;
    }
    t += channels;
    values += channels;
    if (kResidual) shortcut += channels;
  }
}

void StoreFloats(const int32_t* t, int pixels, int channels, const Affine& affine,
                 const Residual& residual, float* values, uint32_t* signs) {
  const auto store = residual.shortcut != nullptr ? StoreRows<true> : StoreRows<false>;
  store(t, pixels, channels, affine, residual, values, signs);
}

void FloatRow(const BconvShape& shape, const BconvRow& row, const Affine& affine,
              const Residual& residual, float* values, uint32_t* signs) {
  if (!FillsWords(shape)) {
    return TwoPassFloatRow<Accumulate, StoreFloats>(shape, row, affine, residual, values, signs);
  }
  RunLookupTiles(shape, row, kBlocks, FloatTilesFor<FloatTiles>(shape, affine, residual),
                 {shape.channels_out, nullptr, affine, residual, values, signs});
}

BIREAL_AVX2 void PackFloat(const float* in, size_t rows, int channels, uint32_t* out) {
  const __m256 zero = _mm256_setzero_ps();
  for (size_t row = 0; row < rows; ++row, in += channels) {
    int c = 0;
    for (; c + kBitsPerWord <= channels; c += kBitsPerWord) {
      uint32_t word = 0;
      for (int i = 0; i < 4; ++i) {
        const __m256 negative = _mm256_cmp_ps(_mm256_loadu_ps(in + c + 8 * i), zero, _CMP_LT_OQ);
        word |= static_cast<uint32_t>(_mm256_movemask_ps(negative)) << (8 * i);
      }
      *out++ = word;
    }
    if (c < channels) kPortable.quantize.pack_float(in + c, 1, channels - c, out++);
  }
}

}  // namespace

extern const ByteKernel kAvx2Bytes;
extern const FloatKernel kAvx2Float;
extern const Kernels kAvx2;
const Kernels kAvx2 = {
    "avx2",
    HasAvx2,
    {LookupHandles, WeightBytes, LookupScratchBytes, Pack, Accumulate, FloatRow},
    {PackFloat},
    &kAvx2Float,
    &kAvx2Bytes,
};

}  // namespace bireal

#endif  // defined(__x86_64__)
