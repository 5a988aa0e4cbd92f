// From counts to floats and signs, in the NEON of every 64-bit Arm.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "delegate/kernels/neon.h"

namespace bireal {
namespace {

constexpr int kLanes = 4;
constexpr int kVectors = kBitsPerWord / kLanes;

// The signs of 32 floats. The comparison, as in the portable kernel, and not the sign bit.
inline uint32_t Signs(const float32x4_t values[kVectors]) {
  uint16x8_t halves[kVectors / 2];
  for (int i = 0; i < kVectors / 2; ++i) {
    halves[i] = vuzp1q_u16(vreinterpretq_u16_u32(vcltzq_f32(values[2 * i])),
                           vreinterpretq_u16_u32(vcltzq_f32(values[2 * i + 1])));
  }
  const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
  uint8x16_t bytes[2];
  for (int i = 0; i < 2; ++i) {
    const uint8x16_t negative =
        vuzp1q_u8(vreinterpretq_u8_u16(halves[2 * i]), vreinterpretq_u8_u16(halves[2 * i + 1]));
    bytes[i] = vandq_u8(negative, bits);
  }
  // Eight bits to a byte are three additions of neighbours.
  uint8x16_t sum = vpaddq_u8(bytes[0], bytes[1]);
  sum = vpaddq_u8(sum, sum);
  sum = vpaddq_u8(sum, sum);
  return vgetq_lane_u32(vreinterpretq_u32_u8(sum), 0);
}

// Four values from c on. What is known when compiling costs nothing when false.
template <bool kResidual, bool kRelu>
inline float32x4_t Values(const int32_t* t, const Affine& affine, const float* shortcut, int c) {
  int32x4_t count = vminq_s32(vld1q_s32(t + c), vdupq_n_s32(affine.clamp_max));
  count = vmaxq_s32(count, vdupq_n_s32(affine.clamp_min));
  // Rounded twice, as everywhere: never vfmaq.
  const float32x4_t scaled = vmulq_f32(vcvtq_f32_s32(count), vld1q_f32(affine.multiplier + c));
  float32x4_t y = vaddq_f32(scaled, vld1q_f32(affine.bias + c));
  if (kResidual) {
    y = vaddq_f32(y, vld1q_f32(shortcut + c));
    // vmaxq would make a -0.0 a 0.0.
    if (kRelu) {
      y = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltzq_f32(y)));
    }
  }
  return y;
}

// `affine` is a copy: what a reference leads to might change with each value that is stored, and
// would be loaded again.
template <bool kResidual, bool kRelu>
void StoreRows(const int32_t* t, int pixels, int channels, const Affine affine,
               const Residual& residual, float* values, uint32_t* signs) {
  const float* shortcut = residual.shortcut;
  for (int pixel = 0; pixel < pixels; ++pixel) {
    int c = 0;
    for (; c + kBitsPerWord <= channels; c += kBitsPerWord) {
      float32x4_t y[kVectors];
      for (int i = 0; i < kVectors; ++i) {
        y[i] = Values<kResidual, kRelu>(t, affine, shortcut, c + kLanes * i);
        vst1q_f32(values + c + kLanes * i, y[i]);
      }
      if (signs != nullptr) *signs++ = Signs(y);
    }
    if (c < channels) {
      const Affine rest = {affine.multiplier + c, affine.bias + c, affine.clamp_min,
                           affine.clamp_max};
      const Residual rest_residual = {kResidual ? shortcut + c : nullptr, residual.relu};
      PortableStoreFloat(t + c, 1, channels - c, rest, rest_residual, values + c, signs);
      if (signs != nullptr) ++signs;
    }
    t += channels;
    values += channels;
    if (kResidual) shortcut += channels;
  }
}

}  // namespace

void NeonStoreFloat(const int32_t* t, int pixels, int channels, const Affine& affine,
                    const Residual& residual, float* values, uint32_t* signs) {
  const auto store = residual.shortcut == nullptr ? StoreRows<false, false>
                     : residual.relu              ? StoreRows<true, true>
                                                  : StoreRows<true, false>;
  store(t, pixels, channels, affine, residual, values, signs);
}

void NeonPackFloat(const float* in, size_t rows, int channels, uint32_t* out) {
  for (size_t row = 0; row < rows; ++row, in += channels) {
    int c = 0;
    for (; c + kBitsPerWord <= channels; c += kBitsPerWord) {
      float32x4_t x[kVectors];
      for (int i = 0; i < kVectors; ++i) x[i] = vld1q_f32(in + c + kLanes * i);
      *out++ = Signs(x);
    }
    if (c < channels) kPortable.quantize.pack_float(in + c, 1, channels - c, out++);
  }
}

}  // namespace bireal

#endif  // defined(__aarch64__)
