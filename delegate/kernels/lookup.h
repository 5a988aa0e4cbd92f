// Binary convolution by nibble look-up: what AVX2 and NEON share.
//
// A vector shuffle looks 16 or 32 bytes up in a table of 16 entries at once. Let the table
// belong to four activation bits `a`, and entry `w` hold popcount(a ^ w): one shuffle then
// counts the different signs of four channels for as many filters as the vector has bytes.
// The filters are stored as nibbles, one to a byte, side by side for that.
//
// A count is at most 4 and fits half a byte. So a table serves *two* neighbouring output
// pixels, the left one's count in the low half of a byte and the right one's in the high half.
// After three look-ups, at most 12 in each half, the halves are added to separate bytes, and
// those, before they overflow, to 16-bit sums.
//
// Outside the image, where zero padding multiplies by 0, a 17th kind of nibble counts 2 of its
// 4 channels as different, which is what zeros amount to (t = 1 for each channel). So borders
// cost nothing, and no correction pass exists to be wrong on small maps.
//
// Per look-up and pair of pixels that is, beside loads, 1 shuffle, 2/3 additions and 4/3 other
// operations for 8 binary MACs per byte, against 8 operations for xor and a shuffle-based
// popcount. docs/kernels.md has the measurements.
#ifndef BIREAL_DELEGATE_KERNELS_LOOKUP_H_
#define BIREAL_DELEGATE_KERNELS_LOOKUP_H_

#include "delegate/kernels/bconv_tile.h"

namespace bireal {

constexpr int kNibblesPerWord = 8;
constexpr int kTableBytes = 16;
// Four channels, each +1 or -1: 16 kinds of nibble; and four zeros.
constexpr int kNibbleKinds = 17;
constexpr int kZeros = 16;

// Entry `weights` of the table for the nibble `left` of one pixel and `right` of the next.
struct PairTables {
  alignas(16) uint8_t entry[kNibbleKinds][kNibbleKinds][kTableBytes];  // [right][left][weights]
};
extern const PairTables kPairTables;

// Look-ups whose counts, at most 4 each, fit a byte: a multiple of three, at most 63.
constexpr int kMaxLookups = 60;
constexpr int kLookupsPerNibbleSum = 3;

// A tile is at most four output pixels, as two pairs, by one block of filters.
constexpr int kTilePixels = 4;

// What a tile's pixels look at, as positions of tables (byte offsets into kPairTables). The
// first pair's are `run_count` runs of `length` positions, one for each filter row or tap; the
// second pair's, if there is one, lie `pair_stride` further on.
struct TileInput {
  const uint16_t* const* runs;
  int run_count;
  int length;
  ptrdiff_t pair_stride;
  const uint8_t* weights;  // One for each filter of the block and position, in the runs' order.
  // Beside twice the different signs, what makes a pixel's count.
  int32_t correction[kTilePixels];
};

// Writes the tile of 1, 2, 3 or 4 pixels.
using TileFunction = void (*)(const TileInput& input, const RowOutput& output,
                              const TilePosition& position);
using TileFunctions = TileFunction[kTilePixels];

// How an instruction set cuts filters into blocks, and where channel c of a block lies within its
// bytes: the order in which it widens bytes.
struct LookupBlocks {
  int channels;
  int (*order)(int channel);
};

// Members of BconvKernel, for an instruction set that brings tiles.
bool LookupHandles(const BconvShape& shape);
size_t LookupWeightBytes(const BconvShape& shape, const LookupBlocks& blocks);
size_t LookupScratchBytes(const BconvShape& shape);
void LookupPack(const BconvShape& shape, const uint32_t* filter, const LookupBlocks& blocks,
                uint8_t* weights);
// Has tiles write a row.
void RunLookupTiles(const BconvShape& shape, const BconvRow& row, const LookupBlocks& blocks,
                    const TileFunctions& tiles, const RowOutput& output);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_LOOKUP_H_
