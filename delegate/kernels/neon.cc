// Binary convolution by counting bits, in the NEON of every 64-bit Arm.
//
// A vector holds 16 channels of eight filters, one filter to each 16-bit lane. Beside a vector
// with the same 16 channels of a pixel in every lane, three instructions count the different
// signs and add them to eight sums: veor, vcnt, vpadal. Nothing is left to add up across lanes
// in the end, and every load serves four such triples. The pixels are spread over the lanes
// once for each output row, into a buffer that stays in the first-level cache.
//
// What lies left and right of the image is spread as +1. Where it should have been 0, sums begin at
// less: at minus the filter's own -1s in those taps, modulo 2^16. Filter rows above and below the
// image are skipped.
#if defined(__aarch64__)

#include "delegate/kernels/neon.h"

#include <arm_neon.h>

#include <algorithm>
#include <cstring>

#include "delegate/kernels/neon_tile.h"
#include "delegate/kernels/taps.h"

namespace bireal {
namespace {

constexpr int kTilePixels = 4;
constexpr int kLaneChannels = 16;
constexpr int kVectorBytes = 16;
constexpr int kStepsPerWord = kBitsPerWord / kLaneChannels;
constexpr int kStepBytes = kSumVectors * kVectorBytes;

// Where neighbouring words begin: those of the tile's first pixel, spread, and those of a block
// of filters.
struct SpreadRun {
  const uint8_t* pixels;
  const uint8_t* weights;
};

// What a tile looks at.
struct TileInput {
  const SpreadRun* runs;
  int run_count;
  int words;            // Of a run.
  size_t pixel_stride;  // In bytes.
  // For each pixel, of kBlockFilters filters: what the sums begin at. A count is `odd` plus twice
  // a sum.
  const uint16_t* start[kTilePixels];
  int32_t odd[kTilePixels];
};

int BlocksPerGroup(const BconvShape& shape) {
  return DivideUp(shape.channels_out / shape.groups, kBlockFilters);
}

// Bytes of one tap of one block of filters.
size_t TapBytes(const BconvShape& shape) {
  return static_cast<size_t>(shape.words_per_group) * kStepsPerWord * kStepBytes;
}

size_t BlocksBytes(const BconvShape& shape) {
  return static_cast<size_t>(shape.groups) * BlocksPerGroup(shape) * TapCount(shape) *
         TapBytes(shape);
}

// Bytes of one pixel of one group, spread.
size_t GroupBytes(const BconvShape& shape) {
  return static_cast<size_t>(shape.words_per_group) * kStepsPerWord * kVectorBytes;
}

size_t PixelBytes(const BconvShape& shape) { return GroupBytes(shape) * shape.groups; }

// Columns of the padded input that an output row looks at.
int Columns(const BconvShape& shape) {
  const Window& window = shape.window;
  return (window.out_w - 1) * window.stride_w + (window.filter_w - 1) * window.dilation_w + 1;
}

size_t RowBytes(const BconvShape& shape) { return Columns(shape) * PixelBytes(shape); }

// Spreads `words` words, each of their halves over a vector.
uint8_t* Spread(const uint32_t* words, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i, out += kStepsPerWord * kVectorBytes) {
    vst1q_u16(reinterpret_cast<uint16_t*>(out), vdupq_n_u16(words[i] & 0xffff));
    vst1q_u16(reinterpret_cast<uint16_t*>(out + kVectorBytes), vdupq_n_u16(words[i] >> 16));
  }
  return out;
}

// Spreads one input row, padded with +1.
void SpreadRow(const BconvShape& shape, const uint32_t* row, uint8_t* out) {
  const Window& window = shape.window;
  const int left = std::min(window.pad_left, Columns(shape));
  const int inside = std::min(window.in_w, Columns(shape) - left);
  const int right = Columns(shape) - left - inside;
  std::memset(out, 0, left * PixelBytes(shape));
  out = Spread(row, static_cast<size_t>(inside) * shape.words_per_group * shape.groups,
               out + left * PixelBytes(shape));
  std::memset(out, 0, right * PixelBytes(shape));
}

// Counts what differs between 16 channels of `kPixels` pixels and of the filters. For two pixels
// at once, so that the first result is ready when it is its turn again, also on Cortex-A53, which
// waits for it.
template <int kPixels>
inline void CountStep(const uint8_t* pixels, size_t pixel_stride,
                      const uint8x16_t filters[kSumVectors],
                      uint16x8_t sums[kPixels][kSumVectors]) {
  uint8x16_t counts[kPixels][kSumVectors];
  for (int p = 0; p < kPixels; ++p) {
    const uint8x16_t pixel = vld1q_u8(pixels + p * pixel_stride);
    for (int v = 0; v < kSumVectors; ++v) counts[p][v] = veorq_u8(pixel, filters[v]);
  }
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kSumVectors; ++v) counts[p][v] = vcntq_u8(counts[p][v]);
  }
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kSumVectors; ++v) sums[p][v] = vpadalq_u8(sums[p][v], counts[p][v]);
  }
}

// The different signs of a tile. Clang would make it a function, whose sums are in memory.
template <int kPixels>
__attribute__((always_inline)) inline void Count(const TileInput& input, Sums<kPixels>& sums) {
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kSumVectors; ++v) sums[p][v] = vld1q_u16(input.start[p] + v * kSumLanes);
  }
  const size_t pixel_stride = input.pixel_stride;
  for (const SpreadRun* run = input.runs; run < input.runs + input.run_count; ++run) {
    const uint8_t* pixels = run->pixels;
    const uint8_t* weights = run->weights;
    int words = input.words;
    // For a loop that might not run, GCC would keep the sums in memory as well.
    do {
      for (int step = 0; step < kStepsPerWord; ++step) {
        uint8x16_t filters[kSumVectors];
        for (int v = 0; v < kSumVectors; ++v) filters[v] = vld1q_u8(weights + v * kVectorBytes);
        if (kPixels % 2 == 1) CountStep<1>(pixels, pixel_stride, filters, sums);
        for (int p = kPixels % 2; p < kPixels; p += 2) {
          CountStep<2>(pixels + p * pixel_stride, pixel_stride, filters, sums + p);
        }
        pixels += kVectorBytes;
        weights += kStepBytes;
      }
    } while (--words > 0);
  }
}

template <int kPixels>
BIREAL_IN_SOURCE_ORDER void CountTile(const TileInput& input, const RowOutput& output,
                                      const TilePosition& position) {
  Sums<kPixels> sums;
  Count<kPixels>(input, sums);
  StoreCounts<kPixels>(sums, input.odd, output, position);
}

// Where no count is odd.
template <bool kClamp, bool kResidual, bool kRelu, int kPixels>
BIREAL_IN_SOURCE_ORDER void FloatTile(const TileInput& input, const RowOutput& output,
                                      const TilePosition& position) {
  Sums<kPixels> sums;
  Count<kPixels>(input, sums);
  StoreFloats<kClamp, kResidual, kRelu, kPixels>(sums, output, position);
}

using TileFunction = void (*)(const TileInput& input, const RowOutput& output,
                              const TilePosition& position);
using TileFunctions = TileFunction[kTilePixels];
constexpr TileFunctions kCountTiles = {CountTile<1>, CountTile<2>, CountTile<3>, CountTile<4>};
template <bool kClamp, bool kResidual, bool kRelu>
struct FloatTiles {
  template <int kPixels>
  static constexpr TileFunction kTile = FloatTile<kClamp, kResidual, kRelu, kPixels>;
  static constexpr TileFunctions kTiles = {kTile<1>, kTile<2>, kTile<3>, kTile<4>};
};

// What the sums of `filters` filters begin at, for the pixels of row `out_y` whose taps `columns`
// lie inside the image. `negatives`: how many -1s each tap has in each filter.
void FindStart(const BconvShape& shape, const uint16_t* negatives, int filters, int out_y,
               Taps columns, uint16_t* start) {
  const Window& window = shape.window;
  const Taps rows = RowsInside(window, out_y);
  const int zeros = shape.pad_with_ones ? 0 : TapCount(shape) - rows.count() * columns.count();
  std::fill_n(start, kBlockFilters, static_cast<uint16_t>(zeros * shape.channels_per_group / 2));
  for (int fy = 0; fy < window.filter_h; ++fy) {
    const bool skipped = fy < rows.begin || fy >= rows.end;
    for (int fx = 0; fx < window.filter_w; ++fx, negatives += shape.channels_out) {
      if (skipped && shape.pad_with_ones) {
        for (int o = 0; o < filters; ++o) start[o] += negatives[o];
      } else if (!skipped && !shape.pad_with_ones && (fx < columns.begin || fx >= columns.end)) {
        for (int o = 0; o < filters; ++o) start[o] -= negatives[o];
      }
    }
  }
}

bool Supported() { return true; }

// The 16-bit sums.
bool Handles(const BconvShape& shape) {
  return static_cast<int64_t>(TapCount(shape)) * shape.words_per_group * kBitsPerWord <= UINT16_MAX;
}

size_t WeightBytes(const BconvShape& shape) {
  return BlocksBytes(shape) +
         static_cast<size_t>(TapCount(shape)) * shape.channels_out * sizeof(uint16_t);
}

size_t ScratchBytes(const BconvShape& shape) {
  return TapCount(shape) * sizeof(SpreadRun) + shape.window.filter_h * RowBytes(shape);
}

// For each block of filters, tap and 16 channels: the filters' 16 bits side by side. After all
// blocks: for each tap, the number of -1s of each filter.
void Pack(const BconvShape& shape, const uint32_t* filter, uint8_t* weights) {
  const int words = shape.words_per_group;
  const int channels = shape.channels_out / shape.groups;
  auto* const negatives = reinterpret_cast<uint16_t*>(weights + BlocksBytes(shape));
  std::memset(weights, 0, WeightBytes(shape));
  for (int o = 0; o < shape.channels_out; ++o) {
    const int block = o / channels * BlocksPerGroup(shape) + o % channels / kBlockFilters;
    auto* out = reinterpret_cast<uint16_t*>(weights + block * TapCount(shape) * TapBytes(shape)) +
                o % channels % kBlockFilters;
    for (int tap = 0; tap < TapCount(shape); ++tap) {
      for (int i = 0; i < words; ++i, ++filter, out += kStepsPerWord * kBlockFilters) {
        out[0] = *filter & 0xffff;
        out[kBlockFilters] = *filter >> kLaneChannels;
        negatives[static_cast<size_t>(tap) * shape.channels_out + o] += __builtin_popcount(*filter);
      }
    }
  }
}

void RunTiles(const BconvShape& shape, const BconvRow& row, const TileFunctions& tiles,
              const RowOutput& output) {
  const Window& window = shape.window;
  auto* const runs = reinterpret_cast<SpreadRun*>(row.scratch);
  uint8_t* const spread = row.scratch + TapCount(shape) * sizeof(SpreadRun);
  const size_t row_words = static_cast<size_t>(window.in_w) * shape.words_per_group * shape.groups;
  const Taps rows = RowsInside(window, row.out_y);
  for (int fy = rows.begin; fy < rows.end; ++fy) {
    const ptrdiff_t y = static_cast<ptrdiff_t>(row.out_y) * window.stride_h - window.pad_top +
                        fy * window.dilation_h;
    SpreadRow(shape, row.input + y * row_words, spread + fy * RowBytes(shape));
  }

  // Where all taps of a filter row are neighbours in memory, the row is one run.
  const bool rows_are_runs = shape.groups == 1 && window.dilation_w == 1;
  const int runs_per_row = rows_are_runs ? 1 : window.filter_w;
  const size_t run_bytes = TapBytes(shape) * (rows_are_runs ? window.filter_w : 1);
  TileInput input = {};
  input.runs = runs;
  input.run_count = rows.count() * runs_per_row;
  input.words = shape.words_per_group * (rows_are_runs ? window.filter_w : 1);
  input.pixel_stride = window.stride_w * PixelBytes(shape);
  const Taps all = {0, window.filter_w};
  const int channels = shape.channels_out / shape.groups;
  const uint8_t* weights = row.weights;
  const auto* negatives = reinterpret_cast<const uint16_t*>(weights + BlocksBytes(shape));
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels; first += kBlockFilters) {
      const int channel = group * channels + first;
      const auto find_start = [&](Taps columns, uint16_t* start) {
        FindStart(shape, negatives + channel, std::min(kBlockFilters, channels - first), row.out_y,
                  columns, start);
      };
      uint16_t inside[kBlockFilters];
      find_start(all, inside);
      for (int ox = 0; ox < window.out_w; ox += kTilePixels) {
        for (int i = 0; i < input.run_count; ++i) {
          const int fy = rows.begin + i / runs_per_row;
          const int fx = i % runs_per_row;
          runs[i] = {spread + fy * RowBytes(shape) + ox * input.pixel_stride +
                         fx * window.dilation_w * PixelBytes(shape) + group * GroupBytes(shape),
                     weights + (fy * runs_per_row + fx) * run_bytes};
        }
        const int pixels = std::min(kTilePixels, window.out_w - ox);
        uint16_t border[kTilePixels][kBlockFilters];
        for (int p = 0; p < pixels; ++p) {
          const Taps columns = shape.pad_with_ones ? all : ColumnsInside(window, ox + p);
          const int zeros = TapCount(shape) - rows.count() * columns.count();
          input.odd[p] = shape.pad_with_ones ? 0 : zeros * shape.channels_per_group % 2;
          input.start[p] = columns == all ? inside : border[p];
          if (!(columns == all)) find_start(columns, border[p]);
        }
        tiles[pixels - 1](input, output, {static_cast<size_t>(ox), channel, channels - first});
      }
      weights += TapCount(shape) * TapBytes(shape);
    }
  }
}

void Accumulate(const BconvShape& shape, const BconvRow& row) {
  RowOutput output = {};
  output.channels = shape.channels_out;
  output.t = row.t;
  RunTiles(shape, row, kCountTiles, output);
}

void FloatRow(const BconvShape& shape, const BconvRow& row, const Affine& affine,
              const Residual& residual, float* values, uint32_t* signs) {
  if (!FillsWords(shape) || shape.channels_per_group % 2 != 0) {
    return TwoPassFloatRow<Accumulate, NeonStoreFloat>(shape, row, affine, residual, values, signs);
  }
  RunTiles(shape, row, FloatTilesFor<FloatTiles>(shape, affine, residual),
           {shape.channels_out, nullptr, affine, residual, values, signs});
}

}  // namespace

extern const ByteKernel kNeonBytes;
extern const FloatKernel kNeonFloat;
extern const Kernels kNeon;
const Kernels kNeon = {
    "neon",          Supported,   {Handles, WeightBytes, ScratchBytes, Pack, Accumulate, FloatRow},
    {NeonPackFloat}, &kNeonFloat, &kNeonBytes,
};

}  // namespace bireal

#endif  // defined(__aarch64__)
