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

#include "delegate/kernels/lookup.h"
#include "delegate/kernels/neon.h"

namespace bireal {
namespace {

constexpr int kVectors = 4;
constexpr int kVectorChannels = 16;

inline uint8x16_t Table(uint16_t position) {
  return vld1q_u8(reinterpret_cast<const uint8_t*>(&kPairTables) + position);
}

// Sums the counts of `kLookups` positions, at most three: fifteen fit half a byte.
template <int kLookups>
inline void LookUp(const uint16_t* position, ptrdiff_t pair_stride, const uint8_t* weights,
                   uint8x16_t sum[kTilePairs][kVectors]) {
  for (int i = 0; i < kLookups; ++i, ++position, weights += kBlockChannels) {
    for (int p = 0; p < kTilePairs; ++p) {
      const uint8x16_t table = Table(position[p * pair_stride]);
      for (int v = 0; v < kVectors; ++v) {
        const uint8x16_t counts = vqtbl1q_u8(table, vld1q_u8(weights + v * kVectorChannels));
        sum[p][v] = i == 0 ? counts : vaddq_u8(sum[p][v], counts);
      }
    }
  }
}

// Adds 16 bytes to 16 sums.
inline void Widen(uint8x16_t bytes, uint16_t* sums) {
  vst1q_u16(sums, vaddw_u8(vld1q_u16(sums), vget_low_u8(bytes)));
  vst1q_u16(sums + 8, vaddw_high_u8(vld1q_u16(sums + 8), bytes));
}

void Tile(const TileInput& input, const uint8_t* weights,
          uint16_t counts[kTilePixels][kBlockChannels]) {
  std::fill_n(counts[0], kTilePixels * kBlockChannels, uint16_t{0});
  for (int run = 0; run < input.count; ++run) {
    const uint16_t* position = input.runs[run];
    for (int left = input.length; left > 0;) {
      // Bytewise: all that is counted, the right pixels' counts sixteenfold, modulo 256; and
      // the right pixels' counts.
      uint8x16_t total[kTilePairs][kVectors] = {};
      uint8x16_t right[kTilePairs][kVectors] = {};
      for (int room = std::min(left, kMaxLookups); room > 0;) {
        uint8x16_t sum[kTilePairs][kVectors];
        int lookups = 1;
        if (room >= kLookupsPerNibbleSum) {
          lookups = kLookupsPerNibbleSum;
          LookUp<kLookupsPerNibbleSum>(position, input.pair_stride, weights, sum);
        } else {
          LookUp<1>(position, input.pair_stride, weights, sum);
        }
        for (int p = 0; p < kTilePairs; ++p) {
          for (int v = 0; v < kVectors; ++v) {
            total[p][v] = vaddq_u8(total[p][v], sum[p][v]);
            right[p][v] = vsraq_n_u8(right[p][v], sum[p][v], 4);
          }
        }
        position += lookups;
        weights += lookups * kBlockChannels;
        left -= lookups;
        room -= lookups;
      }
      for (int p = 0; p < kTilePairs; ++p) {
        for (int v = 0; v < kVectors; ++v) {
          const uint8x16_t left_counts = vsubq_u8(total[p][v], vshlq_n_u8(right[p][v], 4));
          Widen(left_counts, counts[2 * p] + v * kVectorChannels);
          Widen(right[p][v], counts[2 * p + 1] + v * kVectorChannels);
        }
      }
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

void Accumulate(const BconvShape& shape, const uint8_t* weights, const uint32_t* input, int out_y,
                uint8_t* scratch, int32_t* t) {
  LookupAccumulate(shape, weights, input, out_y, Tile, scratch, t);
}

}  // namespace

extern const Kernels kNeonLookup;
const Kernels kNeonLookup = {
    "neon_lookup", Supported,  LookupHandles,  LookupWeightBytes, LookupScratchBytes,
    Pack,          Accumulate, NeonStoreFloat, NeonPackFloat,
};

}  // namespace bireal

#endif  // defined(__aarch64__)
