// LceQuantize and LceDequantize, between values and packed signs, on plain arrays.
#ifndef BIREAL_DELEGATE_KERNELS_QUANTIZE_H_
#define BIREAL_DELEGATE_KERNELS_QUANTIZE_H_

#include <cstddef>
#include <cstdint>

#include "delegate/kernels/bits.h"

namespace bireal {

// What an instruction set brings for LceQuantize.
struct QuantizeKernel {
  // Packs the signs of `rows` rows of `channels` values.
  void (*pack_float)(const float* in, size_t rows, int channels, uint32_t* out);
};

// The rest is fast enough everywhere as the compiler makes it.

// LceQuantize of other types: an int8 value is negative below `zero_point`; false means -1.
void PackInt8(const int8_t* in, size_t rows, int channels, int32_t zero_point, uint32_t* out);
void PackBool(const uint8_t* in, size_t rows, int channels, uint32_t* out);

// LceDequantize: writes `plus` for +1 and `minus` for -1.
void UnpackFloat(const uint32_t* in, size_t rows, int channels, float plus, float minus,
                 float* out);
void UnpackBytes(const uint32_t* in, size_t rows, int channels, uint8_t plus, uint8_t minus,
                 uint8_t* out);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_QUANTIZE_H_
