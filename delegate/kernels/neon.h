// What the kernels for 64-bit Arm share.
#ifndef BIREAL_DELEGATE_KERNELS_NEON_H_
#define BIREAL_DELEGATE_KERNELS_NEON_H_

#include "delegate/kernels/kernels.h"

// Inner loops that fill the registers need this: GCC would first spread their loads far ahead, and
// then find no registers for them.
#if defined(__GNUC__) && !defined(__clang__)
#define BIREAL_IN_SOURCE_ORDER __attribute__((optimize("no-schedule-insns")))
#else
#define BIREAL_IN_SOURCE_ORDER
#endif

namespace bireal {

// A StoreFloat, and a member of QuantizeKernel.
void NeonStoreFloat(const int32_t* t, int pixels, int channels, const Affine& affine,
                    const Residual& residual, float* values, uint32_t* signs);
void NeonPackFloat(const float* in, size_t rows, int channels, uint32_t* out);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_NEON_H_
