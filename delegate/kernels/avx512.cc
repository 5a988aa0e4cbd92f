// Counting bits in AVX-512: every 32-bit lane of a vector counts for a filter of its own, so the
// sums need no reduction, and the packed input is read where it lies.
//
// For 16 filters, 32 channels and one pixel that is one xor, one population count and one
// addition: 512 binary MACs. Taps outside the image are left out, or meet a row of +1.
//
// The sums of a tile stay in registers until they are floats and signs, where the filters fill
// whole words of signs; else the row takes two passes.
#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of its own header's deliberately undefined vectors (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "delegate/kernels/bconv_tile.h"
#include "delegate/kernels/kernels.h"
#include "delegate/kernels/taps.h"
#include "delegate/kernels/x86.h"

// As in avx2.cc, the instruction set belongs to these functions alone.
#define BIREAL_AVX512 __attribute__((target("avx512f,avx512vpopcntdq")))
#define BIREAL_AVX512_INLINE BIREAL_AVX512 __attribute__((always_inline)) inline

namespace bireal {
namespace {

constexpr int kLanes = 16;
// A tile is at most four pixels by four vectors of filters: 16 sums in 32 registers.
constexpr int kTilePixels = 4;
constexpr int kTileVectors = 4;
constexpr int kBlockChannels = kTileVectors * kLanes;

// Words of the input that lie one after the other, and the weights that they meet. The packed
// input is read where it lies.
struct PackedRun {
  const uint32_t* input;   // For the tile's first pixel.
  ptrdiff_t pixel_stride;  // In words, to where the next pixel's run begins.
  size_t weights;          // Where in a block, in uint32_t.
  int words;
};

// What a tile looks at.
struct TileInput {
  const PackedRun* runs;
  int run_count;
  const uint32_t* weights;  // Of the block: kBlockChannels for each word.
  int32_t zeros;            // Channels that a zero of the border multiplies.
};

// The lanes that hold channels, of `left` from a vector's first on.
inline __mmask16 Lanes(int left) {
  return static_cast<__mmask16>(left >= kLanes ? 0xffff : left <= 0 ? 0 : (1 << left) - 1);
}

BIREAL_AVX512_INLINE __mmask16 Signs(__m512 values) {
  return _mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_LT_OQ);
}

// The t of a tile, in registers. Loops over them are unrolled, here and where they are used: GCC
// would spill what it has to index.
template <int kPixels, int kVectors>
BIREAL_AVX512_INLINE void Count(const TileInput& input, __m512i (&t)[kPixels][kVectors]) {
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) t[p][v] = _mm512_setzero_si512();
  }
  for (int i = 0; i < input.run_count; ++i) {
    const PackedRun& run = input.runs[i];
    const uint32_t* weights = input.weights + run.weights;
    for (int word = 0; word < run.words; ++word, weights += kBlockChannels) {
      __m512i w[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) w[v] = _mm512_loadu_si512(weights + v * kLanes);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        const __m512i x =
            _mm512_set1_epi32(static_cast<int>(run.input[p * run.pixel_stride + word]));
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          t[p][v] = _mm512_add_epi32(t[p][v], _mm512_popcnt_epi32(_mm512_xor_si512(x, w[v])));
        }
      }
    }
  }
  const __m512i zeros = _mm512_set1_epi32(input.zeros);
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      t[p][v] = _mm512_add_epi32(_mm512_add_epi32(t[p][v], t[p][v]), zeros);
    }
  }
}

template <int kPixels, int kVectors>
BIREAL_AVX512 void CountTile(const TileInput& input, const RowOutput& output,
                             const TilePosition& position) {
  __m512i t[kPixels][kVectors];
  Count(input, t);
  int32_t* out = output.t + position.pixel * output.channels + position.channel;
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p, out += output.channels) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __mmask16 lanes = Lanes(position.channels_left - v * kLanes);
      _mm512_mask_storeu_epi32(out + v * kLanes, lanes, t[p][v]);
    }
  }
}

// Of whole words of signs.
template <bool kClamp, bool kResidual, int kPixels, int kVectors>
BIREAL_AVX512 void FloatTile(const TileInput& input, const RowOutput& output,
                             const TilePosition& position) {
  __m512i t[kPixels][kVectors];
  Count(input, t);
  __m512 multiplier[kVectors];
  __m512 bias[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    multiplier[v] = _mm512_loadu_ps(output.affine.multiplier + position.channel + v * kLanes);
    bias[v] = _mm512_loadu_ps(output.affine.bias + position.channel + v * kLanes);
  }
  const ptrdiff_t pixel_stride = output.channels;
  const size_t first = position.pixel * pixel_stride + position.channel;
  const float* shortcut = kResidual ? output.residual.shortcut + first : nullptr;
  const bool relu = output.residual.relu;
  float* values = output.values + first;
  // A vector's signs are half a word.
  auto* signs = reinterpret_cast<uint8_t*>(output.signs);
  if (signs != nullptr) signs += first / 8;
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if (kClamp) {
        t[p][v] = _mm512_min_epi32(t[p][v], _mm512_set1_epi32(output.affine.clamp_max));
        t[p][v] = _mm512_max_epi32(t[p][v], _mm512_set1_epi32(output.affine.clamp_min));
      }
      __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(t[p][v]), multiplier[v]), bias[v]);
      const ptrdiff_t i = p * pixel_stride + v * kLanes;
      if (kResidual) {
        y = _mm512_add_ps(y, _mm512_loadu_ps(shortcut + i));
        // Where one of the two is a NaN, the result is the second operand.
        if (relu) y = _mm512_max_ps(_mm512_setzero_ps(), y);
      }
      _mm512_storeu_ps(values + i, y);
      if (signs != nullptr) {
        const __mmask16 half_word = Signs(y);
        std::memcpy(signs + i / 8, &half_word, sizeof(half_word));
      }
    }
  }
}

using TileFunction = void (*)(const TileInput& input, const RowOutput& output,
                              const TilePosition& position);
using TileFunctions = TileFunction[kTilePixels][kTileVectors];
constexpr TileFunctions kCountTiles = {
    {CountTile<1, 1>, CountTile<1, 2>, CountTile<1, 3>, CountTile<1, 4>},
    {CountTile<2, 1>, CountTile<2, 2>, CountTile<2, 3>, CountTile<2, 4>},
    {CountTile<3, 1>, CountTile<3, 2>, CountTile<3, 3>, CountTile<3, 4>},
    {CountTile<4, 1>, CountTile<4, 2>, CountTile<4, 3>, CountTile<4, 4>},
};
// The tiles ask for a ReLU when they run: copies of them that know were 2 % slower.
template <bool kClamp, bool kResidual, bool /*kRelu*/>
struct FloatTiles {
  template <int kPixels, int kVectors>
  static constexpr TileFunction kTile = FloatTile<kClamp, kResidual, kPixels, kVectors>;
  static constexpr TileFunctions kTiles = {
      {nullptr, kTile<1, 2>, nullptr, kTile<1, 4>},
      {nullptr, kTile<2, 2>, nullptr, kTile<2, 4>},
      {nullptr, kTile<3, 2>, nullptr, kTile<3, 4>},
      {nullptr, kTile<4, 2>, nullptr, kTile<4, 4>},
  };
};

bool Handles(const BconvShape&) { return true; }

size_t BlockWords(const BconvShape& shape) {
  return static_cast<size_t>(TapCount(shape)) * shape.words_per_group * kBlockChannels;
}

size_t WeightBytes(const BconvShape& shape) {
  return BlockWords(shape) * shape.groups *
         DivideUp(shape.channels_out / shape.groups, kBlockChannels) * sizeof(uint32_t);
}

// One run for each tap, and a tap's words of +1.
size_t ScratchBytes(const BconvShape& shape) {
  return TapCount(shape) * sizeof(PackedRun) + shape.words_per_group * sizeof(uint32_t);
}

void Pack(const BconvShape& shape, const uint32_t* filter, uint8_t* weights) {
  const int channels = shape.channels_out / shape.groups;
  const size_t words = BlockWords(shape) / kBlockChannels;
  std::memset(weights, 0, WeightBytes(shape));
  auto* block = reinterpret_cast<uint32_t*>(weights);
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels; first += kBlockChannels, block += BlockWords(shape)) {
      const int count = std::min(kBlockChannels, channels - first);
      for (int c = 0; c < count; ++c) {
        for (size_t i = 0; i < words; ++i) block[i * kBlockChannels + c] = *filter++;
      }
    }
  }
}

// What the pixels from ox on look at whose taps `columns` lie inside the image.
int FindRuns(const BconvShape& shape, const uint32_t* input, int out_y, int out_x, int group,
             Taps columns, const uint32_t* ones, PackedRun* runs) {
  const Window& window = shape.window;
  const int y0 = out_y * window.stride_h - window.pad_top;
  const int x0 = out_x * window.stride_w - window.pad_left;
  const Taps rows = RowsInside(window, out_y);
  const int words = shape.words_per_group;
  const ptrdiff_t pixel_words = static_cast<ptrdiff_t>(words) * shape.groups;
  int count = 0;
  size_t weights = 0;
  for (int fy = 0; fy < window.filter_h; ++fy) {
    for (int fx = 0; fx < window.filter_w; ++fx, weights += words * kBlockChannels) {
      if (fy >= rows.begin && fy < rows.end && fx >= columns.begin && fx < columns.end) {
        const ptrdiff_t y = y0 + fy * window.dilation_h;
        const ptrdiff_t x = x0 + fx * window.dilation_w;
        const uint32_t* in = input + (y * window.in_w + x) * pixel_words + group * words;
        if (fx > columns.begin && runs[count - 1].input + runs[count - 1].words == in) {
          runs[count - 1].words += words;
        } else {
          runs[count++] = {in, window.stride_w * pixel_words, weights, words};
        }
      } else if (shape.pad_with_ones) {
        runs[count++] = {ones, 0, weights, words};
      }
    }
  }
  return count;
}

void RunTiles(const BconvShape& shape, const BconvRow& row, const TileFunctions& tiles,
              const RowOutput& output) {
  const Window& window = shape.window;
  const int channels = shape.channels_out / shape.groups;
  const int taps = TapCount(shape);
  auto* const runs = reinterpret_cast<PackedRun*>(row.scratch);
  auto* const ones = reinterpret_cast<uint32_t*>(runs + taps);
  std::memset(ones, 0, shape.words_per_group * sizeof(uint32_t));

  const Taps rows = RowsInside(window, row.out_y);
  TileInput input = {};
  input.runs = runs;
  input.weights = reinterpret_cast<const uint32_t*>(row.weights);
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels; first += kBlockChannels) {
      const int vectors = DivideUp(std::min(kBlockChannels, channels - first), kLanes);
      for (int ox = 0; ox < window.out_w;) {
        // Neighbours whose filters stick out of the image alike go together.
        const Taps columns = ColumnsInside(window, ox);
        int end = ox + 1;
        while (end < window.out_w && ColumnsInside(window, end) == columns) ++end;
        const int inside = rows.count() * columns.count();
        input.zeros = shape.pad_with_ones ? 0 : (taps - inside) * shape.channels_per_group;
        input.run_count = FindRuns(shape, row.input, row.out_y, ox, group, columns, ones, runs);
        while (ox < end) {
          const int pixels = std::min(kTilePixels, end - ox);
          const TilePosition position = {static_cast<size_t>(ox), group * channels + first,
                                         channels - first};
          tiles[pixels - 1][vectors - 1](input, output, position);
          ox += pixels;
          for (int i = 0; ox < end && i < input.run_count; ++i) {
            runs[i].input += pixels * runs[i].pixel_stride;
          }
        }
      }
      input.weights += BlockWords(shape);
    }
  }
}

void Accumulate(const BconvShape& shape, const BconvRow& row) {
  RowOutput output = {};
  output.channels = shape.channels_out;
  output.t = row.t;
  RunTiles(shape, row, kCountTiles, output);
}

// Values c to c + 16 of a row, as many as `lanes` has.
template <bool kResidual>
BIREAL_AVX512_INLINE __m512 Values(const int32_t* t, const Affine& affine, const Residual& residual,
                                   const float* shortcut, int c, __mmask16 lanes) {
  __m512i count = _mm512_maskz_loadu_epi32(lanes, t + c);
  count = _mm512_min_epi32(count, _mm512_set1_epi32(affine.clamp_max));
  count = _mm512_max_epi32(count, _mm512_set1_epi32(affine.clamp_min));
  const __m512 multiplier = _mm512_maskz_loadu_ps(lanes, affine.multiplier + c);
  const __m512 bias = _mm512_maskz_loadu_ps(lanes, affine.bias + c);
  __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(count), multiplier), bias);
  if (kResidual) {
    y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(lanes, shortcut + c));
    // Where one of the two is a NaN, the result is the second operand.
    if (residual.relu) y = _mm512_max_ps(_mm512_setzero_ps(), y);
  }
  return y;
}

template <bool kResidual>
BIREAL_AVX512 void StoreRows(const int32_t* t, int pixels, int channels, const Affine& affine,
                             const Residual& residual, float* values, uint32_t* signs) {
  const float* shortcut = residual.shortcut;
  for (int pixel = 0; pixel < pixels; ++pixel) {
    for (int c = 0; c < channels; c += kBitsPerWord) {
      uint32_t word = 0;
      for (int i = 0; i < kBitsPerWord; i += kLanes) {
        const __mmask16 lanes = Lanes(channels - c - i);
        const __m512 y = Values<kResidual>(t, affine, residual, shortcut, c + i, lanes);
        _mm512_mask_storeu_ps(values + c + i, lanes, y);
        word |= static_cast<uint32_t>(Signs(y)) << i;
      }
      if (signs != nullptr) *signs++ = word;
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
  RunTiles(shape, row, FloatTilesFor<FloatTiles>(shape, affine, residual),
           {shape.channels_out, nullptr, affine, residual, values, signs});
}

BIREAL_AVX512 void PackFloat(const float* in, size_t rows, int channels, uint32_t* out) {
  for (size_t row = 0; row < rows; ++row, in += channels) {
    for (int c = 0; c < channels; c += kBitsPerWord) {
      const uint32_t low = Signs(_mm512_maskz_loadu_ps(Lanes(channels - c), in + c));
      const uint32_t high =
          Signs(_mm512_maskz_loadu_ps(Lanes(channels - c - kLanes), in + c + kLanes));
      *out++ = low | high << kLanes;
    }
  }
}

}  // namespace

extern const ByteKernel kAvx512Bytes;
extern const FloatKernel kAvx512Float;
extern const Kernels kAvx512;
const Kernels kAvx512 = {
    "avx512",    HasAvx512,     {Handles, WeightBytes, ScratchBytes, Pack, Accumulate, FloatRow},
    {PackFloat}, &kAvx512Float, &kAvx512Bytes,
};

}  // namespace bireal

#endif  // defined(__x86_64__)
