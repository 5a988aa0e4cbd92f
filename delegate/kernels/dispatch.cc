#include <cstring>

#include "delegate/kernels/kernels.h"

namespace bireal {

#if defined(__x86_64__)
extern const Kernels kAvx512;
extern const Kernels kAvx2;
#elif defined(__aarch64__)
extern const Kernels kNeonLookup;
extern const Kernels kNeon;
#endif

namespace {

// Fastest first. Kernels that are not listed here do not exist.
const Kernels* const kAll[] = {
#if defined(__x86_64__)
    &kAvx512,
    &kAvx2,
#elif defined(__aarch64__)
    &kNeonLookup,
    &kNeon,
#endif
    &kPortable,
};

}  // namespace

const Kernels* FindKernels(const char* name) {
  for (const Kernels* kernels : kAll) {
    if ((name == nullptr || std::strcmp(name, kernels->name) == 0) && kernels->supported()) {
      return kernels;
    }
  }
  return nullptr;
}

const char* KernelNames() {
#if defined(__x86_64__)
  return "avx512, avx2, portable";
#elif defined(__aarch64__)
  return "neon_lookup, neon, portable";
#else
  return "portable";
#endif
}

}  // namespace bireal
