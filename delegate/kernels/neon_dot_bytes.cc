// Convolutions with int8 weights on 64-bit Arm with the dot product of bytes: Raspberry Pi 5.
//
// Both of its factors have a sign. So what is multiplied is x - 128, and 128 times the sum of a
// filter's weights is added.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstring>

#include "delegate/kernels/byte_ops.h"

// As in avx2.cc, the instruction set belongs to these functions alone.
#define BIREAL_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define BIREAL_VECTOR BIREAL_TARGET static inline __attribute__((always_inline))

namespace bireal {
namespace {

struct Vector {
  using Value = uint8_t;
  using Weight = int8_t;
  using Sums = int32x4_t;
  using Weights = int8x16_t;
  using Floats = float32x4_t;
  static constexpr int kGroup = 4;
  static constexpr int kOffset = 128;
  static constexpr int kLanes = 4;
  // 24 sums, 4 vectors of weights and one of the input, in 32 registers.
  static constexpr int kTilePixels = 6;
  static constexpr int kMaxVectors = 4;

  BIREAL_VECTOR Sums LoadSums(const int32_t* in) { return vld1q_s32(in); }
  BIREAL_VECTOR Weights LoadWeights(const Weight* in) { return vld1q_s8(in); }
  BIREAL_VECTOR Sums MultiplyAdd(const Value* x, Weights w, Sums sum) {
    uint32_t group;
    std::memcpy(&group, x, sizeof(group));
    return vdotq_s32(sum, w, vreinterpretq_s8_u32(vdupq_n_u32(group ^ 0x80808080u)));
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
    const int32x4_t shifted = vaddq_s32(vcvtaq_s32_f32(value), vdupq_n_s32(shift));
    const uint16x4_t halves = vmovn_u32(vreinterpretq_u32_s32(shifted));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(halves, halves));
    const uint32_t word = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    std::memcpy(out, &word, sizeof(word));
  }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/byte_rows.h"

namespace bireal {

extern const ByteKernel kNeonDotBytes;
const ByteKernel kNeonDotBytes = {sizeof(Value), Vector::kGroup, PaddedChannels, WeightBytes, Pack,
                                  Widen,         ExtendRange,    Quantize,       Multiply};

}  // namespace bireal

#endif  // defined(__aarch64__)
