#include <cstring>

#include "delegate/kernels/bconv_portable.h"
#include "delegate/kernels/kernels.h"

namespace bireal {
namespace {

// Fastest first. A kernel that is not listed here does not exist.
const BconvKernel* const kKernels[] = {&kBconvPortable};

}  // namespace

const BconvKernel* FindBconvKernel(const char* name) {
  for (const BconvKernel* kernel : kKernels) {
    if ((name == nullptr || std::strcmp(name, kernel->name) == 0) && kernel->supported()) {
      return kernel;
    }
  }
  return nullptr;
}

const char* BconvKernelNames() { return "portable"; }

}  // namespace bireal
