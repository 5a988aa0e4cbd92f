// What this x86 CPU can do, and the operating system lets it: it has to save the registers.
//
// Asked here and not by __builtin_cpu_supports, to which the runtime library of some compilers,
// ziglang's for one, always answers no.
#ifndef BIREAL_DELEGATE_KERNELS_X86_H_
#define BIREAL_DELEGATE_KERNELS_X86_H_

namespace bireal {

// AVX2 and FMA.
bool HasAvx2();
// AVX512F, AVX512_VPOPCNTDQ and AVX512_VNNI.
bool HasAvx512();

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_X86_H_
