// The most binary multiply-accumulates per second that xor and a population count reach on this
// CPU, from registers and first-level cache, in a convolution-like loop: the yardstick of the
// benchmarks, and what its kernels were chosen over.
//
// A tile of 4 pixels by 4 filters, 24 vectors of each. Prints one line for each way to count that
// the CPU has: 1e9 MACs per second, a tab, the name.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>

#if defined(__x86_64__)
#if !defined(__clang__)
// GCC 12 warns of its own header's deliberately undefined vectors (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

namespace {

constexpr int kPixels = 4;
constexpr int kFilters = 4;
constexpr int kVectors = 24;
constexpr int kMaxVectorBytes = 64;  // (4 + 4) * 24 vectors fit 12 KiB.

alignas(kMaxVectorBytes) uint8_t pixels[kPixels * kVectors * kMaxVectorBytes];
alignas(kMaxVectorBytes) uint8_t filters[kFilters * kVectors * kMaxVectorBytes];

#if defined(__x86_64__)
__attribute__((target("popcnt")))
#endif
uint64_t Words() {
  uint64_t sum = 0;
  for (int v = 0; v < kVectors; ++v) {
    for (int f = 0; f < kFilters; ++f) {
      for (int p = 0; p < kPixels; ++p) {
        uint64_t x;
        uint64_t w;
        std::memcpy(&x, pixels + (v * kPixels + p) * sizeof(x), sizeof(x));
        std::memcpy(&w, filters + (v * kFilters + f) * sizeof(w), sizeof(w));
        sum += __builtin_popcountll(x ^ w);
      }
    }
  }
  return sum;
}

#if defined(__x86_64__)

#define BIREAL_AVX2 __attribute__((target("avx2")))
#define BIREAL_AVX512 __attribute__((target("avx512f,avx512vpopcntdq")))

BIREAL_AVX2 inline __m256i Load256(const uint8_t* vectors, int index) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(vectors) + index);
}

// Set bits of each byte: two look-ups in a table of sixteen.
BIREAL_AVX2 inline __m256i CountBytes(__m256i x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15);
  return _mm256_add_epi8(
      _mm256_shuffle_epi8(table, _mm256_and_si256(x, low)),
      _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
}

BIREAL_AVX2 inline uint64_t SumBytes(__m256i bytes) {
  const __m256i wide = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
  return static_cast<uint64_t>(_mm256_extract_epi64(wide, 0) + _mm256_extract_epi64(wide, 1) +
                               _mm256_extract_epi64(wide, 2) + _mm256_extract_epi64(wide, 3));
}

BIREAL_AVX2 uint64_t Shuffle() {
  uint64_t sum = 0;
  // Two filters at once leave registers for the sums of four pixels.
  for (int half = 0; half < kFilters; half += 2) {
    __m256i counts[kPixels][2] = {};
    for (int v = 0; v < kVectors; ++v) {
      for (int f = 0; f < 2; ++f) {
        const __m256i w = Load256(filters, v * kFilters + half + f);
        for (int p = 0; p < kPixels; ++p) {
          const __m256i x = _mm256_xor_si256(w, Load256(pixels, v * kPixels + p));
          counts[p][f] = _mm256_add_epi8(counts[p][f], CountBytes(x));  // At most 24 * 8 = 192.
        }
      }
    }
    for (auto& pixel : counts) {
      for (__m256i& count : pixel) sum += SumBytes(count);
    }
  }
  return sum;
}

// a + b + c, bit by bit: the carry, and the sum in `a`.
BIREAL_AVX2 inline __m256i AddBits(__m256i* a, __m256i b, __m256i c) {
  const __m256i half = _mm256_xor_si256(*a, b);
  const __m256i carry = _mm256_or_si256(_mm256_and_si256(*a, b), _mm256_and_si256(half, c));
  *a = _mm256_xor_si256(half, c);
  return carry;
}

// Harley and Seal's: eight vectors are added bit by bit, and one in eight is counted.
BIREAL_AVX2 uint64_t CarrySave() {
  uint64_t sum = 0;
  for (int f = 0; f < kFilters; ++f) {
    for (int p = 0; p < kPixels; ++p) {
      __m256i ones = _mm256_setzero_si256();
      __m256i twos = ones;
      __m256i fours = ones;
      __m256i eights_count = ones;
      for (int v = 0; v < kVectors; v += 8) {
        const auto x = [&](int i) __attribute__((target("avx2"))) {
          return _mm256_xor_si256(Load256(filters, (v + i) * kFilters + f),
                                  Load256(pixels, (v + i) * kPixels + p));
        };
        const __m256i twos_a = AddBits(&ones, x(0), x(1));
        const __m256i twos_b = AddBits(&ones, x(2), x(3));
        const __m256i fours_a = AddBits(&twos, twos_a, twos_b);
        const __m256i twos_c = AddBits(&ones, x(4), x(5));
        const __m256i twos_d = AddBits(&ones, x(6), x(7));
        const __m256i fours_b = AddBits(&twos, twos_c, twos_d);
        const __m256i eights = AddBits(&fours, fours_a, fours_b);
        eights_count = _mm256_add_epi8(eights_count, CountBytes(eights));
      }
      sum += 8 * SumBytes(eights_count) + 4 * SumBytes(CountBytes(fours)) +
             2 * SumBytes(CountBytes(twos)) + SumBytes(CountBytes(ones));
    }
  }
  return sum;
}

BIREAL_AVX512 uint64_t Count512() {
  const auto* const x = reinterpret_cast<const __m512i*>(pixels);
  const auto* const w = reinterpret_cast<const __m512i*>(filters);
  __m512i counts[kPixels][kFilters] = {};
  for (int v = 0; v < kVectors; ++v) {
    for (int p = 0; p < kPixels; ++p) {
      const __m512i pixel = _mm512_load_si512(x + v * kPixels + p);
      for (int f = 0; f < kFilters; ++f) {
        const __m512i different = _mm512_xor_si512(pixel, _mm512_load_si512(w + v * kFilters + f));
        counts[p][f] = _mm512_add_epi64(counts[p][f], _mm512_popcnt_epi64(different));
      }
    }
  }
  uint64_t sum = 0;
  for (auto& pixel : counts) {
    for (__m512i& count : pixel) sum += static_cast<uint64_t>(_mm512_reduce_add_epi64(count));
  }
  return sum;
}

#endif

void Measure(const char* name, int vector_bytes, uint64_t (*tile)()) {
  constexpr int kTiles = 10000;
  const double macs = double{kTiles} * kVectors * vector_bytes * 8 * kPixels * kFilters;
  double best = 0;
  volatile uint64_t sink = 0;
  for (int round = 0; round < 30; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kTiles; ++i) {
      pixels[0] = static_cast<uint8_t>(i);
      sink = sink + tile();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, macs / seconds.count());
  }
  std::printf("%.1f\t%s\n", best / 1e9, name);
}

}  // namespace

int main() {
  uint32_t state = 1;
  for (auto* bytes : {pixels, filters}) {
    for (size_t i = 0; i < sizeof(pixels); ++i) {
      state = state * 1664525 + 1013904223;
      bytes[i] = static_cast<uint8_t>(state >> 24);
    }
  }
  Measure("the compiler's population count of 64 bits", 8, Words);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    Measure("AVX2: two look-ups a byte", 32, Shuffle);
    Measure("AVX2: carry-save adders, then two look-ups for one vector in eight", 32, CarrySave);
  }
  if (__builtin_cpu_supports("avx512vpopcntdq")) {
    Measure("AVX-512: its population count", 64, Count512);
  }
#endif
}
