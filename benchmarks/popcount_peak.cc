// The most binary multiply-accumulates per second that xor and popcount reach on this CPU, from
// registers and first-level cache, in a convolution-like loop: the yardstick of the benchmarks.
//
// A tile of 4 pixels by 4 filters, 256 or 512 bits of each at a time: by AVX-512's population
// count where the CPU has it, else by AVX2's byte shuffle, else by the compiler's own popcount.
// Prints one number, in 1e9 MACs per second.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512VPOPCNTDQ__) && defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of its own header's deliberately undefined vectors (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace {

constexpr int kPixels = 4;
constexpr int kFilters = 4;
constexpr int kVectors = 24;
#if defined(__AVX512VPOPCNTDQ__)
constexpr int kVectorBytes = 64;  // (4 + 4) * 24 vectors fit 12 KiB.
#else
constexpr int kVectorBytes = 32;
#endif

alignas(kVectorBytes) uint8_t pixels[kVectors][kPixels][kVectorBytes];
alignas(kVectorBytes) uint8_t filters[kVectors][kFilters][kVectorBytes];

#if defined(__AVX512VPOPCNTDQ__)

uint64_t Tile() {
  __m512i counts[kPixels][kFilters] = {};
  for (int v = 0; v < kVectors; ++v) {
    for (int p = 0; p < kPixels; ++p) {
      const __m512i pixel = _mm512_load_si512(pixels[v][p]);
      for (int f = 0; f < kFilters; ++f) {
        const __m512i x = _mm512_xor_si512(pixel, _mm512_load_si512(filters[v][f]));
        counts[p][f] = _mm512_add_epi64(counts[p][f], _mm512_popcnt_epi64(x));
      }
    }
  }
  uint64_t sum = 0;
  for (auto& pixel : counts) {
    for (__m512i& count : pixel) sum += static_cast<uint64_t>(_mm512_reduce_add_epi64(count));
  }
  return sum;
}

#elif defined(__AVX2__)

uint64_t Tile() {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15);
  uint64_t sum = 0;
  // Two filters at once leave registers for the sums of four pixels.
  for (int half = 0; half < kFilters; half += 2) {
    __m256i counts[kPixels][2] = {};
    for (int v = 0; v < kVectors; ++v) {
      for (int f = 0; f < 2; ++f) {
        const __m256i w = _mm256_load_si256(reinterpret_cast<const __m256i*>(filters[v][half + f]));
        for (int p = 0; p < kPixels; ++p) {
          const __m256i x = _mm256_xor_si256(
              w, _mm256_load_si256(reinterpret_cast<const __m256i*>(pixels[v][p])));
          const __m256i bytes = _mm256_add_epi8(
              _mm256_shuffle_epi8(table, _mm256_and_si256(x, low)),
              _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
          counts[p][f] = _mm256_add_epi8(counts[p][f], bytes);  // At most 24 * 8 = 192.
        }
      }
    }
    for (auto& pixel : counts) {
      for (__m256i& count : pixel) {
        const __m256i wide = _mm256_sad_epu8(count, _mm256_setzero_si256());
        sum += _mm256_extract_epi64(wide, 0) + _mm256_extract_epi64(wide, 1) +
               _mm256_extract_epi64(wide, 2) + _mm256_extract_epi64(wide, 3);
      }
    }
  }
  return sum;
}

#else

uint64_t Tile() {
  uint64_t sum = 0;
  for (int v = 0; v < kVectors; ++v) {
    for (int f = 0; f < kFilters; ++f) {
      for (int p = 0; p < kPixels; ++p) {
        for (int i = 0; i < kVectorBytes; i += 8) {
          uint64_t x;
          uint64_t w;
          std::memcpy(&x, &pixels[v][p][i], 8);
          std::memcpy(&w, &filters[v][f][i], 8);
          sum += __builtin_popcountll(x ^ w);
        }
      }
    }
  }
  return sum;
}

#endif

}  // namespace

int main() {
  uint32_t state = 1;
  for (auto* bytes : {&pixels[0][0][0], &filters[0][0][0]}) {
    for (int i = 0; i < kVectors * 4 * kVectorBytes; ++i) {
      state = state * 1664525 + 1013904223;
      bytes[i] = static_cast<uint8_t>(state >> 24);
    }
  }
  constexpr int kTiles = 20000;
  constexpr double kMacs = double{kTiles} * kVectors * kVectorBytes * 8 * kPixels * kFilters;
  double best = 0;
  volatile uint64_t sink = 0;
  for (int round = 0; round < 50; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kTiles; ++i) {
      pixels[0][0][0] = static_cast<uint8_t>(i);
      sink = sink + Tile();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (kMacs / seconds.count() > best) best = kMacs / seconds.count();
  }
  std::printf("%.1f\n", best / 1e9);
}
