#include "delegate/kernels/lookup.h"

#include <algorithm>
#include <cstring>

#include "delegate/kernels/taps.h"

namespace bireal {
namespace {

constexpr int CountOfDifferent(int nibble, int weights) {
  if (nibble == kZeros) return 2;
  int count = 0;
  for (int bits = nibble ^ weights; bits != 0; bits >>= 1) count += bits & 1;
  return count;
}

constexpr PairTables MakePairTables() {
  PairTables tables = {};
  for (int right = 0; right < kNibbleKinds; ++right) {
    for (int left = 0; left < kNibbleKinds; ++left) {
      for (int weights = 0; weights < kTableBytes; ++weights) {
        tables.entry[right][left][weights] = static_cast<uint8_t>(
            CountOfDifferent(left, weights) | CountOfDifferent(right, weights) << 4);
      }
    }
  }
  return tables;
}

int BlocksPerGroup(const BconvShape& shape) {
  return DivideUp(shape.channels_out / shape.groups, kBlockChannels);
}

int NibblesPerGroup(const BconvShape& shape) { return shape.words_per_group * kNibblesPerWord; }

int NibblesPerPixel(const BconvShape& shape) { return NibblesPerGroup(shape) * shape.groups; }

// Columns of the padded input that the left pixels of all tiles look at.
size_t PairColumns(const BconvShape& shape) {
  const Window& window = shape.window;
  const size_t pairs = DivideUp(window.out_w, 2);
  return 2 * (pairs - 1) * window.stride_w + (window.filter_w - 1) * window.dilation_w + 1;
}

// Where all taps of a filter row are neighbours in memory, the row is one run.
bool RowsAreRuns(const BconvShape& shape) {
  return shape.groups == 1 && shape.window.dilation_w == 1;
}

size_t RowPositions(const BconvShape& shape) { return PairColumns(shape) * NibblesPerPixel(shape); }

size_t RowNibbles(const BconvShape& shape) {
  return (PairColumns(shape) + shape.window.stride_w) * NibblesPerPixel(shape);
}

// Unpacks one input row, padded, to one nibble a byte. `row` is null outside the image.
void UnpackNibbles(const BconvShape& shape, const uint32_t* row, uint8_t* nibbles) {
  const Window& window = shape.window;
  const size_t pixel = NibblesPerPixel(shape);
  const size_t columns = PairColumns(shape) + window.stride_w;
  const uint8_t padding = shape.pad_with_ones ? 0 : kZeros;
  if (row == nullptr) {
    std::memset(nibbles, padding, columns * pixel);
    return;
  }
  const size_t left = std::min<size_t>(window.pad_left, columns);
  const size_t inside = std::min<size_t>(window.in_w, columns - left);
  std::memset(nibbles, padding, left * pixel);
  uint8_t* out = nibbles + left * pixel;
  const auto* bytes = reinterpret_cast<const uint8_t*>(row);
  for (size_t i = 0; i < inside * pixel / 2; ++i) {
    out[2 * i] = bytes[i] & 15;
    out[2 * i + 1] = bytes[i] >> 4;
  }
  std::memset(out + inside * pixel, padding, (columns - left - inside) * pixel);
}

}  // namespace

const PairTables kPairTables = MakePairTables();

bool LookupHandles(const BconvShape& shape) {
  // The 16-bit sums; and positions are byte offsets in 16 bits, which always fit.
  static_assert(sizeof(PairTables) <= UINT16_MAX, "positions");
  return static_cast<int64_t>(TapCount(shape)) * shape.words_per_group * kBitsPerWord <= UINT16_MAX;
}

size_t LookupWeightBytes(const BconvShape& shape) {
  return static_cast<size_t>(shape.groups) * BlocksPerGroup(shape) * TapCount(shape) *
         NibblesPerGroup(shape) * kBlockChannels;
}

size_t LookupScratchBytes(const BconvShape& shape) {
  return TapCount(shape) * sizeof(uint16_t*) +
         shape.window.filter_h * RowPositions(shape) * sizeof(uint16_t) + RowNibbles(shape);
}

void LookupPack(const BconvShape& shape, const uint32_t* filter, ChannelOrder order,
                uint8_t* weights) {
  const int channels = shape.channels_out / shape.groups;
  const int words = TapCount(shape) * shape.words_per_group;
  std::memset(weights, 0, LookupWeightBytes(shape));
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels; first += kBlockChannels) {
      const int count = std::min(kBlockChannels, channels - first);
      for (int c = 0; c < count; ++c, filter += words) {
        uint8_t* out = weights + order(c);
        for (int i = 0; i < words; ++i) {
          for (int nibble = 0; nibble < kNibblesPerWord; ++nibble, out += kBlockChannels) {
            *out = filter[i] >> (4 * nibble) & 15;
          }
        }
      }
      weights += static_cast<size_t>(words) * kNibblesPerWord * kBlockChannels;
    }
  }
}

void LookupAccumulate(const BconvShape& shape, const BconvRow& row, TileFunction tile) {
  const Window& window = shape.window;
  const size_t pixel = NibblesPerPixel(shape);
  const size_t row_positions = RowPositions(shape);
  auto** const runs = reinterpret_cast<const uint16_t**>(row.scratch);
  auto* const positions = reinterpret_cast<uint16_t*>(runs + TapCount(shape));
  auto* const nibbles = reinterpret_cast<uint8_t*>(positions + window.filter_h * row_positions);

  // Rows of zeros can be left out, rows of +1 cannot.
  const Taps inside = RowsInside(window, row.out_y);
  const Taps rows = shape.pad_with_ones ? Taps{0, window.filter_h} : inside;
  for (int fy = rows.begin; fy < rows.end; ++fy) {
    const ptrdiff_t y = row.out_y * window.stride_h - window.pad_top + fy * window.dilation_h;
    const bool is_row = fy >= inside.begin && fy < inside.end;
    UnpackNibbles(shape, is_row ? row.input + y * window.in_w * pixel / kNibblesPerWord : nullptr,
                  nibbles);
    const uint8_t* right = nibbles + window.stride_w * pixel;
    uint16_t* out = positions + fy * row_positions;
    for (size_t i = 0; i < row_positions; ++i) {
      out[i] =
          static_cast<uint16_t>(kTableBytes * nibbles[i] + kTableBytes * kNibbleKinds * right[i]);
    }
  }

  const bool rows_are_runs = RowsAreRuns(shape);
  const int runs_per_row = rows_are_runs ? 1 : window.filter_w;
  TileInput tile_input = {};
  tile_input.runs = runs;
  tile_input.count = rows.count() * runs_per_row;
  tile_input.length = NibblesPerGroup(shape) * (rows_are_runs ? window.filter_w : 1);
  tile_input.pair_stride = 2 * pixel * window.stride_w;

  // Every zero is to count as 1. Those of the rows that were left out have not been counted;
  // the others count as 2 for each 4 bits, also after the last channel.
  const int left_out = (window.filter_h - rows.count()) * window.filter_w;
  const int surplus = shape.channels_per_group - shape.words_per_group * kBitsPerWord;
  const int channels = shape.channels_out / shape.groups;
  const size_t tap_bytes = static_cast<size_t>(NibblesPerGroup(shape)) * kBlockChannels;
  const size_t skipped_bytes = rows.begin * window.filter_w * tap_bytes;

  const uint8_t* weights = row.weights;
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels;
         first += kBlockChannels, weights += TapCount(shape) * tap_bytes) {
      const int count = std::min(kBlockChannels, channels - first);
      for (int ox = 0; ox < window.out_w; ox += kTilePixels) {
        for (int run = 0; run < tile_input.count; ++run) {
          const int fy = rows.begin + run / runs_per_row;
          const int fx = run % runs_per_row;
          runs[run] = positions + fy * row_positions +
                      (static_cast<size_t>(ox) * window.stride_w + fx * window.dilation_w) * pixel +
                      group * NibblesPerGroup(shape);
        }
        const int pixels = std::min(kTilePixels, window.out_w - ox);
        tile_input.pairs = DivideUp(pixels, 2);
        alignas(32) uint16_t counts[kTilePixels][kBlockChannels];
        tile(tile_input, weights + skipped_bytes, counts);
        for (int i = 0; i < pixels; ++i) {
          int correction = 0;
          if (!shape.pad_with_ones) {
            const int zeros = window.filter_w - ColumnsInside(window, ox + i).count();
            correction = left_out * shape.channels_per_group + surplus * rows.count() * zeros;
          }
          int32_t* out =
              row.t + static_cast<size_t>(ox + i) * shape.channels_out + group * channels + first;
          for (int c = 0; c < count; ++c) out[c] = 2 * counts[i][c] + correction;
        }
      }
    }
  }
}

}  // namespace bireal
