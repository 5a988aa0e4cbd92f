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

size_t LookupWeightBytes(const BconvShape& shape, const LookupBlocks& blocks) {
  const int blocks_per_group = DivideUp(shape.channels_out / shape.groups, blocks.channels);
  return static_cast<size_t>(shape.groups) * blocks_per_group * TapCount(shape) *
         NibblesPerGroup(shape) * blocks.channels;
}

size_t LookupScratchBytes(const BconvShape& shape) {
  return TapCount(shape) * sizeof(uint16_t*) +
         shape.window.filter_h * RowPositions(shape) * sizeof(uint16_t) + RowNibbles(shape);
}

void LookupPack(const BconvShape& shape, const uint32_t* filter, const LookupBlocks& blocks,
                uint8_t* weights) {
  const int channels = shape.channels_out / shape.groups;
  const int words = TapCount(shape) * shape.words_per_group;
  std::memset(weights, 0, LookupWeightBytes(shape, blocks));
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels; first += blocks.channels) {
      const int count = std::min(blocks.channels, channels - first);
      for (int c = 0; c < count; ++c, filter += words) {
        uint8_t* out = weights + blocks.order(c);
        for (int i = 0; i < words; ++i) {
          for (int nibble = 0; nibble < kNibblesPerWord; ++nibble, out += blocks.channels) {
            *out = filter[i] >> (4 * nibble) & 15;
          }
        }
      }
      weights += static_cast<size_t>(words) * kNibblesPerWord * blocks.channels;
    }
  }
}

void RunLookupTiles(const BconvShape& shape, const BconvRow& row, const LookupBlocks& blocks,
                    const TileFunctions& tiles, const RowOutput& output) {
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
  TileInput input = {};
  input.runs = runs;
  input.run_count = rows.count() * runs_per_row;
  input.length = NibblesPerGroup(shape) * (rows_are_runs ? window.filter_w : 1);
  input.pair_stride = 2 * pixel * window.stride_w;

  // Every zero is to count as 1. Those of the rows that were left out have not been counted;
  // the others count as 2 for each 4 bits, also after the last channel.
  const int left_out = (window.filter_h - rows.count()) * window.filter_w;
  const int surplus = shape.channels_per_group - shape.words_per_group * kBitsPerWord;
  const int channels = shape.channels_out / shape.groups;
  const size_t tap_bytes = static_cast<size_t>(NibblesPerGroup(shape)) * blocks.channels;

  input.weights = row.weights + rows.begin * window.filter_w * tap_bytes;
  for (int group = 0; group < shape.groups; ++group) {
    for (int first = 0; first < channels; first += blocks.channels) {
      for (int ox = 0; ox < window.out_w; ox += kTilePixels) {
        for (int run = 0; run < input.run_count; ++run) {
          const int fy = rows.begin + run / runs_per_row;
          const int fx = run % runs_per_row;
          runs[run] = positions + fy * row_positions +
                      (static_cast<size_t>(ox) * window.stride_w + fx * window.dilation_w) * pixel +
                      group * NibblesPerGroup(shape);
        }
        const int pixels = std::min(kTilePixels, window.out_w - ox);
        for (int i = 0; i < pixels && !shape.pad_with_ones; ++i) {
          input.correction[i] = left_out * shape.channels_per_group;
          if (surplus != 0) {
            const int zeros = window.filter_w - ColumnsInside(window, ox + i).count();
            input.correction[i] += surplus * rows.count() * zeros;
          }
        }
        const TilePosition position = {static_cast<size_t>(ox), group * channels + first,
                                       channels - first};
        tiles[pixels - 1](input, output, position);
      }
      input.weights += TapCount(shape) * tap_bytes;
    }
  }
}

}  // namespace bireal
