// Convolutions with int8 weights in the NEON of every 64-bit Arm: products of 16 bits.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "delegate/kernels/byte_ops.h"

#define BIREAL_TARGET
#define BIREAL_VECTOR static inline __attribute__((always_inline))

namespace bireal {
namespace {

struct Vector {
  using Value = int16_t;
  using Weight = int16_t;
  using Sums = int32x4_t;
  using Weights = int16x4_t;
  using Floats = float32x4_t;
  static constexpr int kGroup = 1;
  static constexpr int kOffset = 0;
  static constexpr int kLanes = 4;
  // 24 sums, 4 vectors of weights and one of the input, in 32 registers.
  static constexpr int kTilePixels = 6;
  static constexpr int kMaxVectors = 4;

  BIREAL_VECTOR Sums LoadSums(const int32_t* in) { return vld1q_s32(in); }
  BIREAL_VECTOR Weights LoadWeights(const Weight* in) { return vld1_s16(in); }
  BIREAL_VECTOR Sums MultiplyAdd(const Value* x, Weights w, Sums sum) {
    return vmlal_s16(sum, w, vld1_dup_s16(x));
  }
  BIREAL_VECTOR Floats LoadFloats(const float* in) { return vld1q_f32(in); }
  BIREAL_VECTOR void StoreFloats(float* out, Floats value) { vst1q_f32(out, value); }
  BIREAL_VECTOR Floats Broadcast(float value) { return vdupq_n_f32(value); }
  // Not vmaxq_f32, which is a NaN where either is.
  BIREAL_VECTOR Floats Max(Floats a, Floats b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  BIREAL_VECTOR Floats Min(Floats a, Floats b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  BIREAL_VECTOR Floats ToFloats(Sums sum) { return vcvtq_f32_s32(sum); }
  BIREAL_VECTOR void StoreRounded(Floats value, Value* out, int shift) {
    // This conversion rounds ties away from zero.
    vst1_s16(out, vmovn_s32(vaddq_s32(vcvtaq_s32_f32(value), vdupq_n_s32(shift))));
  }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/byte_rows.h"

namespace bireal {

extern const ByteKernel kNeonBytes;
const ByteKernel kNeonBytes = {sizeof(Value), Vector::kGroup, PaddedChannels, WeightBytes, Pack,
                               Widen,         ExtendRange,    Quantize,       Multiply};

}  // namespace bireal

#endif  // defined(__aarch64__)
