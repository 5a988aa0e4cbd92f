// Float operators in AVX-512.
#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of its own header's deliberately undefined vectors (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include "delegate/kernels/float_ops.h"

// As in avx2.cc, the instruction set belongs to these functions alone.
#define BIREAL_TARGET __attribute__((target("avx512f")))
#define BIREAL_VECTOR BIREAL_TARGET static inline __attribute__((always_inline))

namespace bireal {
namespace {

struct Vector {
  using Type = __m512;
  static constexpr int kLanes = 16;
  // 16 sums, 4 vectors of weights and one of the input, in 32 registers.
  static constexpr int kTileGroups = 4;
  static constexpr int kMaxVectors = 4;

  BIREAL_VECTOR Type Load(const float* in) { return _mm512_loadu_ps(in); }
  BIREAL_VECTOR void Store(float* out, Type value) { _mm512_storeu_ps(out, value); }
  BIREAL_VECTOR void StorePart(float* out, Type value, int count) {
    const auto lanes = static_cast<__mmask16>(count >= kLanes ? 0xffff : (1 << count) - 1);
    _mm512_mask_storeu_ps(out, lanes, value);
  }
  BIREAL_VECTOR Type Broadcast(float value) { return _mm512_set1_ps(value); }
  BIREAL_VECTOR Type MultiplyAdd(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
  BIREAL_VECTOR Type Max(Type a, Type b) { return _mm512_max_ps(a, b); }
  BIREAL_VECTOR Type IfNegative(Type x, Type a, Type b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
  }
  BIREAL_VECTOR uint32_t Negative(Type x) {
    return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  }
  BIREAL_VECTOR void Pin(Type& value) { asm("" : "+v"(value)); }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/float_rows.h"

namespace bireal {

extern const FloatKernel kAvx2Float;
extern const FloatKernel kAvx512Float;
const FloatKernel kAvx512Float = {
    true,       &kAvx2Float,     8,          WeightFloats,  Pack,
    RowFloats,  PrepareRow,      ConvRow,    ScratchFloats, BlockCount,
    ConvPixels, MaxRow,          AverageRow, DepthwiseRow,  Softmax,
    Logistic,   CombineChannels, PackScaled};

}  // namespace bireal

#endif  // defined(__x86_64__)
