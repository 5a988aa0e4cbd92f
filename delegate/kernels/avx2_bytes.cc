// Convolutions with int8 weights in AVX2.
//
// Two products of 16 bits are added up at once. The instruction for four products of bytes
// (vpmaddubsw) saturates sums of two to 16 bits, which 255 * 127 * 2 exceeds.
#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#include "delegate/kernels/byte_ops.h"

// As in avx2.cc, the instruction set belongs to these functions alone.
#define BIREAL_TARGET __attribute__((target("avx2")))
#define BIREAL_VECTOR BIREAL_TARGET static inline __attribute__((always_inline))

namespace bireal {
namespace {

struct Vector {
  using Value = int16_t;
  using Weight = int16_t;
  using Sums = __m256i;
  using Weights = __m256i;
  using Floats = __m256;
  static constexpr int kGroup = 2;
  static constexpr int kOffset = 0;
  static constexpr int kLanes = 8;
  // 8 sums, 2 vectors of weights, one of the input and products, in 16 registers.
  static constexpr int kTilePixels = 4;
  static constexpr int kMaxVectors = 2;

  BIREAL_VECTOR Sums LoadSums(const int32_t* in) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
  }
  BIREAL_VECTOR Weights LoadWeights(const Weight* in) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
  }
  BIREAL_VECTOR Sums MultiplyAdd(const Value* x, Weights w, Sums sum) {
    int32_t group;
    std::memcpy(&group, x, sizeof(group));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_set1_epi32(group), w));
  }
  BIREAL_VECTOR Floats LoadFloats(const float* in) { return _mm256_loadu_ps(in); }
  BIREAL_VECTOR void StoreFloats(float* out, Floats value) { _mm256_storeu_ps(out, value); }
  BIREAL_VECTOR Floats Broadcast(float value) { return _mm256_set1_ps(value); }
  BIREAL_VECTOR Floats Max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
  BIREAL_VECTOR Floats Min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  BIREAL_VECTOR Floats ToFloats(Sums sum) { return _mm256_cvtepi32_ps(sum); }
  BIREAL_VECTOR void StoreRounded(Floats value, Value* out, int shift) {
    // Towards zero, after the greatest float below 0.5 with the value's sign has been added. Half
    // itself would round that same float up to 1.
    const __m256 sign = _mm256_and_ps(value, _mm256_set1_ps(-0.0f));
    const __m256 half = _mm256_or_ps(sign, _mm256_set1_ps(0x1.fffffep-2f));
    const __m256i rounded = _mm256_cvttps_epi32(value + half);
    const __m256i shifted = _mm256_add_epi32(rounded, _mm256_set1_epi32(shift));
    const __m128i packed =
        _mm_packs_epi32(_mm256_castsi256_si128(shifted), _mm256_extracti128_si256(shifted, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), packed);
  }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/byte_rows.h"

namespace bireal {

extern const ByteKernel kAvx2Bytes;
const ByteKernel kAvx2Bytes = {sizeof(Value), Vector::kGroup, PaddedChannels, WeightBytes, Pack,
                               Widen,         ExtendRange,    Quantize,       Multiply};

}  // namespace bireal

#endif  // defined(__x86_64__)
