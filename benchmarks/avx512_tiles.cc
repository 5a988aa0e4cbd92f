// An experiment: inner loops for AVX-512 that could have become the kernel, from the first-level
// cache. c++ -O3 -std=c++17 avx512_tiles.cc. Prints 1e9 binary MACs per second of each.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vpopcntdq"), noinline))

constexpr int kWords = 72;  // A 3x3 filter row of 768 channels, or three of 256.
constexpr int kNibbles = 8 * kWords;
alignas(64) uint32_t words[kWords * 128];
alignas(64) uint32_t inputs[kWords * 16];
alignas(64) uint8_t nibbles[kNibbles * 128];
alignas(64) uint8_t tables[17 * 17 * 16];
uint16_t positions[8 * kNibbles];
alignas(64) uint32_t out[16 * 128];

// A lane counts for a filter of its own.
template <int kPixels, int kVectors>
AVX512 void Count() {
  __m512i sum[kPixels][kVectors];
  for (auto& pixel : sum) {
    for (__m512i& vector : pixel) vector = _mm512_setzero_si512();
  }
  const uint32_t* weights = words;
  for (int i = 0; i < kWords; ++i, weights += kVectors * 16) {
    __m512i w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = _mm512_loadu_si512(weights + v * 16);
    for (int p = 0; p < kPixels; ++p) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(inputs[p * kWords + i]));
      for (int v = 0; v < kVectors; ++v) {
        sum[p][v] = _mm512_add_epi32(sum[p][v], _mm512_popcnt_epi32(_mm512_xor_si512(x, w[v])));
      }
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kVectors; ++v) _mm512_store_si512(out + (p * kVectors + v) * 16, sum[p][v]);
  }
}

// delegate/kernels/lookup.h in vectors of 64 bytes, without the widening to 16 bits.
template <int kPairs, int kVectors>
AVX512 void LookUp() {
  const __m512i low = _mm512_set1_epi8(15);
  __m512i total[kPairs][kVectors];
  __m512i right[kPairs][kVectors];
  for (int p = 0; p < kPairs; ++p) {
    for (int v = 0; v < kVectors; ++v) total[p][v] = right[p][v] = _mm512_setzero_si512();
  }
  for (int i = 0; i < kNibbles; i += 3) {
    for (int p = 0; p < kPairs; ++p) {
      __m512i sum[kVectors];
      for (int k = 0; k < 3; ++k) {
        const auto* at = tables + positions[p * kNibbles + i + k];
        const __m512i table =
            _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(at)));
        for (int v = 0; v < kVectors; ++v) {
          const __m512i counts = _mm512_shuffle_epi8(
              table, _mm512_loadu_si512(nibbles + (i + k) * kVectors * 64 + v * 64));
          sum[v] = k > 0 ? _mm512_add_epi8(sum[v], counts) : counts;
        }
      }
      for (int v = 0; v < kVectors; ++v) {
        total[p][v] = _mm512_add_epi8(total[p][v], sum[v]);
        right[p][v] =
            _mm512_add_epi8(right[p][v], _mm512_and_si512(_mm512_srli_epi16(sum[v], 4), low));
      }
    }
  }
  for (int p = 0; p < kPairs; ++p) {
    for (int v = 0; v < kVectors; ++v) {
      _mm512_store_si512(out + (p * kVectors + v) * 32, total[p][v]);
      _mm512_store_si512(out + (p * kVectors + v) * 32 + 16, right[p][v]);
    }
  }
}

void Measure(const char* name, double macs, void (*loop)()) {
  constexpr int kRuns = 3000;
  double best = 0;
  for (int round = 0; round < 40; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kRuns; ++i) loop();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, macs * kRuns / seconds.count());
  }
  std::printf("%5.0f  %s\n", best / 1e9, name);
}

int main() {
  for (uint32_t& word : words) word = static_cast<uint32_t>(rand());
  for (uint32_t& word : inputs) word = static_cast<uint32_t>(rand());
  for (uint16_t& position : positions) position = static_cast<uint16_t>(16 * (rand() % 256));
#define COUNT(p, v) \
  Measure("count, " #p " pixels x " #v " vectors", kWords * 512.0 * p * v, Count<p, v>)
#define LOOK_UP(p, v) \
  Measure("look up, " #p " pairs x " #v " vectors", kNibbles * 512.0 * p * v, LookUp<p, v>)
  COUNT(4, 4);
  COUNT(8, 2);
  COUNT(6, 3);
  COUNT(6, 4);
  COUNT(12, 2);
  COUNT(2, 8);
  COUNT(4, 6);
  LOOK_UP(1, 1);
  LOOK_UP(2, 1);
  LOOK_UP(4, 1);
  LOOK_UP(2, 2);
}
