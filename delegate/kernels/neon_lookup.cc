// The tile of the nibble look-up in NEON: two pairs of pixels by two vectors of 16 filters.
//
// Seven vector instructions do 3 * 128 binary MACs, against nine by counting bits. That is
// faster where a table look-up costs what an addition costs: on Cortex-A76 (Raspberry Pi 5)
// and its successors, not on Cortex-A72 (Raspberry Pi 4), where one is worth three.
#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <cstring>

#include "delegate/kernels/kernels.h"
#include "delegate/kernels/lookup.h"
#include "delegate/kernels/neon.h"
#include "delegate/kernels/neon_tile.h"

namespace bireal {
namespace {

constexpr int kVectorFilters = 16;
constexpr int kVectors = kBlockFilters / kVectorFilters;

inline uint8x16_t Table(uint16_t position) {
  return vld1q_u8(reinterpret_cast<const uint8_t*>(&kPairTables) + position);
}

// Bytewise: all that is counted, the right pixels' counts sixteenfold, modulo 256; and the right
// pixels' counts.
template <int kPairs>
struct ByteSums {
  uint8x16_t total[kPairs][kVectors];
  uint8x16_t right[kPairs][kVectors];
};

// Counts at `kLookups` positions, at most three: fifteen fit half a byte.
template <int kLookups, int kPairs>
inline void LookUp(const uint16_t* position, ptrdiff_t pair_stride, const uint8_t* weights,
                   ByteSums<kPairs>* sums) {
  for (int p = 0; p < kPairs; ++p, position += pair_stride) {
    uint8x16_t tables[kLookups];
    for (int i = 0; i < kLookups; ++i) tables[i] = Table(position[i]);
    for (int v = 0; v < kVectors; ++v) {
      const uint8_t* filters = weights + v * kVectorFilters;
      uint8x16_t counts = vqtbl1q_u8(tables[0], vld1q_u8(filters));
      for (int i = 1; i < kLookups; ++i) {
        filters += kBlockFilters;
        counts = vaddq_u8(counts, vqtbl1q_u8(tables[i], vld1q_u8(filters)));
      }
      sums->total[p][v] = vaddq_u8(sums->total[p][v], counts);
      sums->right[p][v] = vsraq_n_u8(sums->right[p][v], counts, 4);
    }
  }
}

// Adds 16 bytes to 16 sums.
inline void Widen(uint8x16_t bytes, uint16x8_t sums[2]) {
  sums[0] = vaddw_u8(sums[0], vget_low_u8(bytes));
  sums[1] = vaddw_high_u8(sums[1], bytes);
}

// The different signs of a tile, and half of the corrections. Inline, as in neon.cc, and in loops
// that run at least once, as there: a run is whole words, of 8 look-ups each, and whatever is left
// of it after every 60 is at least 4.
template <int kPairs>
__attribute__((always_inline)) inline void Count(const TileInput& input, Sums<2 * kPairs>& sums) {
  for (int p = 0; p < 2 * kPairs; ++p) {
    for (int v = 0; v < kSumVectors; ++v) {
      sums[p][v] = vdupq_n_u16(static_cast<uint16_t>(input.correction[p] >> 1));
    }
  }
  const ptrdiff_t pair_stride = input.pair_stride;
  const uint8_t* weights = input.weights;
  for (int run = 0; run < input.run_count; ++run) {
    const uint16_t* position = input.runs[run];
    int left = input.length;
    do {
      ByteSums<kPairs> bytes = {};
      int lookups = std::min(left, kMaxLookups);
      do {
        LookUp<kLookupsPerNibbleSum>(position, pair_stride, weights, &bytes);
        position += kLookupsPerNibbleSum;
        weights += kLookupsPerNibbleSum * kBlockFilters;
        lookups -= kLookupsPerNibbleSum;
      } while (lookups >= kLookupsPerNibbleSum);
      for (; lookups > 0; --lookups, ++position, weights += kBlockFilters) {
        LookUp<1>(position, pair_stride, weights, &bytes);
      }
      for (int p = 0; p < kPairs; ++p) {
        for (int v = 0; v < kVectors; ++v) {
          const uint8x16_t right = bytes.right[p][v];
          Widen(vsubq_u8(bytes.total[p][v], vshlq_n_u8(right, 4)), sums[2 * p] + 2 * v);
          Widen(right, sums[2 * p + 1] + 2 * v);
        }
      }
      left -= kMaxLookups;
    } while (left > 0);
  }
}

template <int kPixels>
BIREAL_IN_SOURCE_ORDER void CountTile(const TileInput& input, const RowOutput& output,
                                      const TilePosition& position) {
  Sums<2 * DivideUp(kPixels, 2)> sums;
  Count<DivideUp(kPixels, 2)>(input, sums);
  int32_t odd[kPixels];
  for (int p = 0; p < kPixels; ++p) odd[p] = input.correction[p] & 1;
  StoreCounts<kPixels>(sums, odd, output, position);
}

// Where no count is odd.
template <bool kClamp, bool kResidual, bool kRelu, int kPixels>
BIREAL_IN_SOURCE_ORDER void FloatTile(const TileInput& input, const RowOutput& output,
                                      const TilePosition& position) {
  Sums<2 * DivideUp(kPixels, 2)> sums;
  Count<DivideUp(kPixels, 2)>(input, sums);
  StoreFloats<kClamp, kResidual, kRelu, kPixels>(sums, output, position);
}

constexpr TileFunctions kCountTiles = {CountTile<1>, CountTile<2>, CountTile<3>, CountTile<4>};
template <bool kClamp, bool kResidual, bool kRelu>
struct FloatTiles {
  template <int kPixels>
  static constexpr TileFunction kTile = FloatTile<kClamp, kResidual, kRelu, kPixels>;
  static constexpr TileFunctions kTiles = {kTile<1>, kTile<2>, kTile<3>, kTile<4>};
};

// Arm has no flag for quick look-ups. Cortex-A76 brought them and the dot product together.
bool Supported() {
#if defined(__APPLE__)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

constexpr LookupBlocks kBlocks = {kBlockFilters, [](int channel) { return channel; }};

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

void FloatRow(const BconvShape& shape, const BconvRow& row, const Affine& affine,
              const Residual& residual, float* values, uint32_t* signs) {
  if (!FillsWords(shape) || shape.channels_per_group % 2 != 0) {
    return TwoPassFloatRow<Accumulate, NeonStoreFloat>(shape, row, affine, residual, values, signs);
  }
  RunLookupTiles(shape, row, kBlocks, FloatTilesFor<FloatTiles>(shape, affine, residual),
                 {shape.channels_out, nullptr, affine, residual, values, signs});
}

}  // namespace

extern const ByteKernel kNeonDotBytes;
extern const FloatKernel kNeonFloat;
extern const Kernels kNeonLookup;
const Kernels kNeonLookup = {
    "neon_lookup",
    Supported,
    {LookupHandles, WeightBytes, LookupScratchBytes, Pack, Accumulate, FloatRow},
    {NeonPackFloat},
    &kNeonFloat,
    &kNeonDotBytes,
};

}  // namespace bireal

#endif  // defined(__aarch64__)
