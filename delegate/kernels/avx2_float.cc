// Float operators in AVX2 and its fused multiply-add.
#if defined(__x86_64__)

#include <immintrin.h>

#include "delegate/kernels/float_ops.h"

// As in avx2.cc, the instruction set belongs to these functions alone.
#define BIREAL_TARGET __attribute__((target("avx2,fma")))
#define BIREAL_VECTOR BIREAL_TARGET static inline __attribute__((always_inline))

namespace bireal {
namespace {

struct Vector {
  using Type = __m256;
  static constexpr int kLanes = 8;
  // 12 sums, 2 vectors of weights and one of the input, in 16 registers.
  static constexpr int kTileGroups = 6;
  static constexpr int kMaxVectors = 2;

  BIREAL_VECTOR Type Load(const float* in) { return _mm256_loadu_ps(in); }
  BIREAL_VECTOR void Store(float* out, Type value) { _mm256_storeu_ps(out, value); }
  BIREAL_VECTOR void StorePart(float* out, Type value, int count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(out, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes), value);
  }
  BIREAL_VECTOR Type Broadcast(float value) { return _mm256_set1_ps(value); }
  BIREAL_VECTOR Type MultiplyAdd(Type a, Type b, Type c) { return _mm256_fmadd_ps(a, b, c); }
  BIREAL_VECTOR Type Max(Type a, Type b) { return _mm256_max_ps(a, b); }
  BIREAL_VECTOR Type IfNegative(Type x, Type a, Type b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
  }
  BIREAL_VECTOR uint32_t Negative(Type x) {
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ)));
  }
  BIREAL_VECTOR void Pin(Type& value) { asm("" : "+x"(value)); }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/float_rows.h"

namespace bireal {

extern const FloatKernel kAvx2Float;
const FloatKernel kAvx2Float = {true,       nullptr,         0,          WeightFloats,  Pack,
                                RowFloats,  PrepareRow,      ConvRow,    ScratchFloats, BlockCount,
                                ConvPixels, MaxRow,          AverageRow, DepthwiseRow,  Softmax,
                                Logistic,   CombineChannels, PackScaled};

}  // namespace bireal

#endif  // defined(__x86_64__)
