// Binary convolution by counting bits, in the NEON of every 64-bit Arm.
//
// A vector holds 16 channels of eight filters, one filter to each 16-bit lane. Beside a vector
// with the same 16 channels of a pixel in every lane, three instructions count the different
// signs and add them to eight sums: veor, vcnt, vpadal. Nothing is left to add up across lanes
// in the end, and every load serves four such triples. The pixels are spread over the lanes
// once for each output row, into a buffer that stays in the first-level cache.
//
// What lies left and right of the image is spread as +1. Where it should have been 0, the
// filter's own -1s are taken back, tap by tap; there are few such pixels. Filter rows above and
// below the image are skipped.
#if defined(__aarch64__)

#include "delegate/kernels/neon.h"

#include <arm_neon.h>

#include <algorithm>
#include <cstring>

namespace bireal {
namespace {

constexpr int kLanes = 8;
constexpr int kLaneChannels = 16;
constexpr int kVectorBytes = 16;
constexpr int kStepsPerWord = kBitsPerWord / kLaneChannels;

// A tile is four output pixels by one block of filters: 16 vectors of sums.
constexpr int kTilePixels = 4;
constexpr int kVectors = 4;
constexpr int kBlockFilters = kVectors * kLanes;
constexpr int kStepBytes = kVectors * kVectorBytes;

// Where neighbouring words begin: those of the tile's first pixel, spread, and those of a block
// of filters.
struct SpreadRun {
  const uint8_t* pixels;
  const uint8_t* weights;
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

bool Inside(int at, int size) { return at >= 0 && at < size; }

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
inline void Count(const uint8_t* pixels, size_t pixel_stride, const uint8x16_t filters[kVectors],
                  uint16x8_t sums[kPixels][kVectors]) {
  uint8x16_t counts[kPixels][kVectors];
  for (int p = 0; p < kPixels; ++p) {
    const uint8x16_t pixel = vld1q_u8(pixels + p * pixel_stride);
    for (int v = 0; v < kVectors; ++v) counts[p][v] = veorq_u8(pixel, filters[v]);
  }
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kVectors; ++v) counts[p][v] = vcntq_u8(counts[p][v]);
  }
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kVectors; ++v) sums[p][v] = vpadalq_u8(sums[p][v], counts[p][v]);
  }
}

// Counts twice the different signs of `kPixels` pixels, `pixel_stride` bytes apart, and the
// filters of a block; those of the next pixel go `t_stride` further on.
template <int kPixels>
BIREAL_IN_SOURCE_ORDER void Tile(const SpreadRun* runs, int count, int words, size_t pixel_stride,
                                 int32_t* t, size_t t_stride) {
  uint16x8_t sums[kPixels][kVectors] = {};
  for (const SpreadRun* run = runs; run < runs + count; ++run) {
    const uint8_t* pixels = run->pixels;
    const uint8_t* weights = run->weights;
    for (int word = 0; word < words; ++word) {
      for (int step = 0; step < kStepsPerWord; ++step) {
        uint8x16_t filters[kVectors];
        for (int v = 0; v < kVectors; ++v) filters[v] = vld1q_u8(weights + v * kVectorBytes);
        if (kPixels % 2 == 1) Count<1>(pixels, pixel_stride, filters, sums);
        for (int p = kPixels % 2; p < kPixels; p += 2) {
          Count<2>(pixels + p * pixel_stride, pixel_stride, filters, sums + p);
        }
        pixels += kVectorBytes;
        weights += kStepBytes;
      }
    }
  }
  for (int p = 0; p < kPixels; ++p, t += t_stride) {
    for (int v = 0; v < kVectors; ++v) {
      const uint32x4_t low = vshll_n_u16(vget_low_u16(sums[p][v]), 1);
      const uint32x4_t high = vshll_high_n_u16(sums[p][v], 1);
      vst1q_s32(t + v * kLanes, vreinterpretq_s32_u32(low));
      vst1q_s32(t + v * kLanes + kLanes / 2, vreinterpretq_s32_u32(high));
    }
  }
}

using TileFunction = void (*)(const SpreadRun*, int, int, size_t, int32_t*, size_t);
constexpr TileFunction kTiles[kTilePixels] = {Tile<1>, Tile<2>, Tile<3>, Tile<4>};

// Makes good for the taps outside the image: those in rows that were skipped, and those that
// were taken for +1. `negatives`: how many -1s each tap has in each filter.
void CorrectBorder(const BconvShape& shape, const uint16_t* negatives, int out_y, int32_t* t) {
  const Window& window = shape.window;
  const int channels = shape.channels_out;
  for (int fy = 0; fy < window.filter_h; ++fy) {
    const int y = out_y * window.stride_h - window.pad_top + fy * window.dilation_h;
    const bool skipped = !Inside(y, window.in_h);
    for (int fx = 0; fx < window.filter_w; ++fx, negatives += channels) {
      for (int ox = 0; ox < window.out_w; ++ox) {
        const int x = ox * window.stride_w - window.pad_left + fx * window.dilation_w;
        if (!skipped && (shape.pad_with_ones || Inside(x, window.in_w))) continue;
        // What should have been counted, less what was.
        const int constant = shape.pad_with_ones ? 0 : shape.channels_per_group;
        const int factor = 2 * (shape.pad_with_ones - !skipped);
        int32_t* pixel = t + static_cast<size_t>(ox) * channels;
        for (int c = 0; c < channels; ++c) pixel[c] += constant + factor * negatives[c];
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

void Accumulate(const BconvShape& shape, const BconvRow& row) {
  const Window& window = shape.window;
  auto* const runs = reinterpret_cast<SpreadRun*>(row.scratch);
  uint8_t* const rows = row.scratch + TapCount(shape) * sizeof(SpreadRun);
  const size_t row_words = static_cast<size_t>(window.in_w) * shape.words_per_group * shape.groups;
  const auto input_row = [&](int fy) {
    return row.out_y * window.stride_h - window.pad_top + fy * window.dilation_h;
  };
  for (int fy = 0; fy < window.filter_h; ++fy) {
    const int y = input_row(fy);
    if (Inside(y, window.in_h))
      SpreadRow(shape, row.input + y * row_words, rows + fy * RowBytes(shape));
  }

  // Where all taps of a filter row are neighbours in memory, the row is one run.
  const bool rows_are_runs = shape.groups == 1 && window.dilation_w == 1;
  const int runs_per_row = rows_are_runs ? 1 : window.filter_w;
  const int words = shape.words_per_group * (rows_are_runs ? window.filter_w : 1);
  const size_t run_bytes = TapBytes(shape) * (rows_are_runs ? window.filter_w : 1);
  const size_t pixel_stride = window.stride_w * PixelBytes(shape);
  const int channels = shape.channels_out / shape.groups;
  const uint8_t* weights = row.weights;
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels; first += kBlockFilters) {
      const int filters = std::min(kBlockFilters, channels - first);
      for (int ox = 0; ox < window.out_w; ox += kTilePixels) {
        int count = 0;
        for (int fy = 0; fy < window.filter_h; ++fy) {
          if (!Inside(input_row(fy), window.in_h)) continue;
          for (int fx = 0; fx < runs_per_row; ++fx) {
            runs[count++] = {rows + fy * RowBytes(shape) + ox * pixel_stride +
                                 fx * window.dilation_w * PixelBytes(shape) +
                                 group * GroupBytes(shape),
                             weights + (fy * runs_per_row + fx) * run_bytes};
          }
        }
        const int pixels = std::min(kTilePixels, window.out_w - ox);
        const TileFunction tile = kTiles[pixels - 1];
        int32_t* out =
            row.t + static_cast<size_t>(ox) * shape.channels_out + group * channels + first;
        if (filters == kBlockFilters) {
          tile(runs, count, words, pixel_stride, out, shape.channels_out);
          continue;
        }
        int32_t block[kTilePixels][kBlockFilters];
        tile(runs, count, words, pixel_stride, block[0], kBlockFilters);
        for (int p = 0; p < pixels; ++p, out += shape.channels_out) {
          std::copy_n(block[p], filters, out);
        }
      }
      weights += TapCount(shape) * TapBytes(shape);
    }
  }
  CorrectBorder(shape, reinterpret_cast<const uint16_t*>(weights), row.out_y, row.t);
}

}  // namespace

extern const ByteKernel kNeonBytes;
extern const FloatKernel kNeonFloat;
extern const Kernels kNeon;
const Kernels kNeon = {
    "neon",
    Supported,
    {Handles, WeightBytes, ScratchBytes, Pack, Accumulate,
     TwoPassFloatRow<Accumulate, NeonStoreFloat>},
    {NeonPackFloat},
    &kNeonFloat,
    &kNeonBytes,
};

}  // namespace bireal

#endif  // defined(__aarch64__)
