#include <cstring>

#include "delegate/kernels/kernels.h"

namespace bireal {

#if defined(__x86_64__)
extern const Kernels kAvx2;
#endif

namespace {

// Fastest first. Kernels that are not listed here do not exist.
const Kernels* const kAll[] = {
#if defined(__x86_64__)
    &kAvx2,
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
  return "avx2, portable";
#else
  return "portable";
#endif
}

}  // namespace bireal
