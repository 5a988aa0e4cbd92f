// Convolutions with int8 weights in AVX-512 and its products of bytes, VNNI.
#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of its own header's deliberately undefined vectors (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <cstring>

#include "delegate/kernels/byte_ops.h"

// As in avx2.cc, the instruction set belongs to these functions alone.
#define BIREAL_TARGET __attribute__((target("avx512f,avx512vnni")))
#define BIREAL_VECTOR BIREAL_TARGET static inline __attribute__((always_inline))

namespace bireal {
namespace {

struct Vector {
  using Value = uint8_t;
  using Weight = int8_t;
  using Sums = __m512i;
  using Weights = __m512i;
  using Floats = __m512;
  static constexpr int kGroup = 4;
  static constexpr int kOffset = 0;
  static constexpr int kLanes = 16;
  // 24 sums, 4 vectors of weights and one of the input, in 32 registers.
  static constexpr int kTilePixels = 6;
  static constexpr int kMaxVectors = 4;

  BIREAL_VECTOR Sums LoadSums(const int32_t* in) { return _mm512_loadu_si512(in); }
  BIREAL_VECTOR Weights LoadWeights(const Weight* in) { return _mm512_loadu_si512(in); }
  BIREAL_VECTOR Sums MultiplyAdd(const Value* x, Weights w, Sums sum) {
    int32_t group;
    std::memcpy(&group, x, sizeof(group));
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(group), w);
    // Without it GCC 12 keeps two copies of every sum, one of them in memory.
    asm("" : "+v"(sum));
    return sum;
  }
  BIREAL_VECTOR Floats LoadFloats(const float* in) { return _mm512_loadu_ps(in); }
  BIREAL_VECTOR void StoreFloats(float* out, Floats value) { _mm512_storeu_ps(out, value); }
  BIREAL_VECTOR Floats Broadcast(float value) { return _mm512_set1_ps(value); }
  BIREAL_VECTOR Floats Max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  BIREAL_VECTOR Floats Min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  BIREAL_VECTOR Floats ToFloats(Sums sum) { return _mm512_cvtepi32_ps(sum); }
  BIREAL_VECTOR void StoreRounded(Floats value, Value* out, int shift) {
    // As in avx2_bytes.cc.
    const __m512i sign = _mm512_and_epi32(_mm512_castps_si512(value), _mm512_set1_epi32(INT32_MIN));
    const __m512i half = _mm512_or_epi32(sign, _mm512_castps_si512(_mm512_set1_ps(0x1.fffffep-2f)));
    const __m512i rounded = _mm512_cvttps_epi32(value + _mm512_castsi512_ps(half));
    const __m512i shifted = _mm512_add_epi32(rounded, _mm512_set1_epi32(shift));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(shifted));
  }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/byte_rows.h"

namespace bireal {

extern const ByteKernel kAvx512Bytes;
const ByteKernel kAvx512Bytes = {sizeof(Value), Vector::kGroup, PaddedChannels, WeightBytes, Pack,
                                 Widen,         ExtendRange,    Quantize,       Multiply};

}  // namespace bireal

#endif  // defined(__x86_64__)
