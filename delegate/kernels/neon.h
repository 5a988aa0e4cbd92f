// What the kernels for 64-bit Arm share.
#ifndef BIREAL_DELEGATE_KERNELS_NEON_H_
#define BIREAL_DELEGATE_KERNELS_NEON_H_

#include "delegate/kernels/kernels.h"

namespace bireal {

// Members of Kernels.
void NeonStoreFloat(const int32_t* t, int pixels, int channels, const Affine& affine,
                    const Residual& residual, float* values, uint32_t* signs);
void NeonPackFloat(const float* in, size_t rows, int channels, uint32_t* out);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_NEON_H_
