// The arithmetic of ops on plain arrays, in sets: one set for each instruction set, with one
// kernel for each kind of op. Nothing in this folder knows TensorFlow Lite.
//
// Conventions, throughout the delegate:
//   - Activations are NHWC; bits.h says how bit-packed ones hold their channels.
//   - The sign of x is (x < 0 ? -1 : +1): -0.0 and NaN are +1.
//   - Sizes have been checked: every product fits its type.
//
// Arithmetic is canonical, the same bytes on every CPU: for binary ops integers until the end, then
// one multiplication and one addition, rounded separately; likewise for int8 weights, with one
// multiplication more; for float operators fused multiply-adds in a fixed order.
#ifndef BIREAL_DELEGATE_KERNELS_KERNELS_H_
#define BIREAL_DELEGATE_KERNELS_KERNELS_H_

#include "delegate/kernels/bconv.h"
#include "delegate/kernels/byte_ops.h"
#include "delegate/kernels/float_ops.h"
#include "delegate/kernels/quantize.h"

namespace bireal {

// What an instruction set brings. Every kernel gives the same bytes as the portable one, which
// also stands in where a set has none of its own.
struct Kernels {
  const char* name;
  bool (*supported)();  // By this CPU.
  BconvKernel bconv;
  QuantizeKernel quantize;
  const FloatKernel* float_ops;
  const ByteKernel* bytes;
};

extern const Kernels kPortable;

// The kernels of that name, the best ones for this CPU when `name` is null, or null when there
// are none or this CPU cannot run them.
const Kernels* FindKernels(const char* name);
// "avx512, avx2, portable": what FindKernels knows, for an error message.
const char* KernelNames();

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_KERNELS_H_
