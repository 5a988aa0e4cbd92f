// Float operators in the NEON of every 64-bit Arm.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "delegate/kernels/float_ops.h"

#define BIREAL_TARGET
#define BIREAL_VECTOR static inline __attribute__((always_inline))

namespace bireal {
namespace {

struct Vector {
  using Type = float32x4_t;
  static constexpr int kLanes = 4;
  // 16 sums, 4 vectors of weights and one of the input, in 32 registers: rows of maps tend to be a
  // multiple of 4, and Winograd's product has two sums for each.
  static constexpr int kTileGroups = 4;
  static constexpr int kMaxVectors = 4;

  BIREAL_VECTOR Type Load(const float* in) { return vld1q_f32(in); }
  BIREAL_VECTOR void Store(float* out, Type value) { vst1q_f32(out, value); }
  BIREAL_VECTOR void StorePart(float* out, Type value, int count) {
    float values[kLanes];
    vst1q_f32(values, value);
    for (int i = 0; i < count && i < kLanes; ++i) out[i] = values[i];
  }
  BIREAL_VECTOR Type Broadcast(float value) { return vdupq_n_f32(value); }
  BIREAL_VECTOR Type MultiplyAdd(Type a, Type b, Type c) { return vfmaq_f32(c, a, b); }
  // Not vmaxq_f32, which is a NaN where either is.
  BIREAL_VECTOR Type Max(Type a, Type b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  BIREAL_VECTOR Type IfNegative(Type x, Type a, Type b) { return vbslq_f32(vcltzq_f32(x), a, b); }
  BIREAL_VECTOR uint32_t Negative(Type x) {
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltzq_f32(x), bits));
  }
  BIREAL_VECTOR void Pin(Type& value) { asm("" : "+w"(value)); }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/float_rows.h"

namespace bireal {

extern const FloatKernel kNeonFloat;
const FloatKernel kNeonFloat = {true,       nullptr,         0,          WeightFloats,  Pack,
                                RowFloats,  PrepareRow,      ConvRow,    ScratchFloats, BlockCount,
                                ConvPixels, MaxRow,          AverageRow, DepthwiseRow,  Softmax,
                                Logistic,   CombineChannels, PackScaled};

}  // namespace bireal

#endif  // defined(__aarch64__)
