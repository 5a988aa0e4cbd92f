// The tile of the nibble look-up in NEON: two pairs of pixels by four vectors of 16 filters.
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

namespace bireal {
namespace {

constexpr int kVectors = 4;
constexpr int kVectorChannels = 16;

inline uint8x16_t Table(uint16_t position) {
  return vld1q_u8(reinterpret_cast<const uint8_t*>(&kPairTables) + position);
}

// Bytewise: all that is counted, the right pixels' counts sixteenfold, modulo 256; and the right
// pixels' counts.
template <int kPairs>
struct Sums {
  uint8x16_t total[kPairs][kVectors];
  uint8x16_t right[kPairs][kVectors];
};

// Counts at `kLookups` positions, at most three: fifteen fit half a byte.
template <int kLookups, int kPairs>
inline void LookUp(const uint16_t* position, ptrdiff_t pair_stride, const uint8_t* weights,
                   Sums<kPairs>* sums) {
  uint8x16_t tables[kPairs][kLookups];
  for (int p = 0; p < kPairs; ++p) {
    for (int i = 0; i < kLookups; ++i) tables[p][i] = Table(position[p * pair_stride + i]);
  }
  for (int v = 0; v < kVectors; ++v, weights += kVectorChannels) {
    for (int p = 0; p < kPairs; ++p) {
      uint8x16_t counts = vqtbl1q_u8(tables[p][0], vld1q_u8(weights));
      for (int i = 1; i < kLookups; ++i) {
        const uint8x16_t filters = vld1q_u8(weights + i * kBlockChannels);
        counts = vaddq_u8(counts, vqtbl1q_u8(tables[p][i], filters));
      }
      sums->total[p][v] = vaddq_u8(sums->total[p][v], counts);
      sums->right[p][v] = vsraq_n_u8(sums->right[p][v], counts, 4);
    }
  }
}

// Adds 16 bytes to 16 sums.
inline void Widen(uint8x16_t bytes, uint16_t* sums) {
  vst1q_u16(sums, vaddw_u8(vld1q_u16(sums), vget_low_u8(bytes)));
  vst1q_u16(sums + 8, vaddw_high_u8(vld1q_u16(sums + 8), bytes));
}

// Adds what differs at `lookups` positions, at most kMaxLookups, to `counts`.
template <int kPairs>
__attribute__((noinline)) BIREAL_IN_SOURCE_ORDER void Count(
    const uint16_t* position, ptrdiff_t pair_stride, const uint8_t* weights, int lookups,
    uint16_t counts[kTilePixels][kBlockChannels]) {
  Sums<kPairs> sums = {};
  for (; lookups >= kLookupsPerNibbleSum; lookups -= kLookupsPerNibbleSum) {
    LookUp<kLookupsPerNibbleSum>(position, pair_stride, weights, &sums);
    position += kLookupsPerNibbleSum;
    weights += kLookupsPerNibbleSum * kBlockChannels;
  }
  for (; lookups > 0; --lookups, ++position, weights += kBlockChannels) {
    LookUp<1>(position, pair_stride, weights, &sums);
  }
  for (int p = 0; p < kPairs; ++p) {
    for (int v = 0; v < kVectors; ++v) {
      const uint8x16_t left = vsubq_u8(sums.total[p][v], vshlq_n_u8(sums.right[p][v], 4));
      Widen(left, counts[2 * p] + v * kVectorChannels);
      Widen(sums.right[p][v], counts[2 * p + 1] + v * kVectorChannels);
    }
  }
}

void Tile(const TileInput& input, const uint8_t* weights,
          uint16_t counts[kTilePixels][kBlockChannels]) {
  std::memset(counts, 0, kTilePixels * sizeof(counts[0]));
  const auto count = input.pairs == 1 ? Count<1> : Count<kTilePairs>;
  for (int run = 0; run < input.count; ++run) {
    for (int done = 0; done < input.length; done += kMaxLookups) {
      const int lookups = std::min(input.length - done, kMaxLookups);
      count(input.runs[run] + done, input.pair_stride, weights, lookups, counts);
      weights += lookups * kBlockChannels;
    }
  }
}

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

void Pack(const BconvShape& shape, const uint32_t* filter, uint8_t* weights) {
  const auto as_they_come = [](int channel) { return channel; };
  LookupPack(shape, filter, as_they_come, weights);
}

void Accumulate(const BconvShape& shape, const BconvRow& row) {
  LookupAccumulate(shape, row, Tile);
}

}  // namespace

extern const ByteKernel kNeonDotBytes;
extern const FloatKernel kNeonFloat;
extern const Kernels kNeonLookup;
const Kernels kNeonLookup = {
    "neon_lookup",
    Supported,
    {LookupHandles, LookupWeightBytes, LookupScratchBytes, Pack, Accumulate,
     TwoPassFloatRow<Accumulate, NeonStoreFloat>},
    {NeonPackFloat},
    &kNeonFloat,
    &kNeonDotBytes,
};

}  // namespace bireal

#endif  // defined(__aarch64__)
