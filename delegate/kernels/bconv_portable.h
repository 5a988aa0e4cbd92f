#ifndef BIREAL_DELEGATE_KERNELS_BCONV_PORTABLE_H_
#define BIREAL_DELEGATE_KERNELS_BCONV_PORTABLE_H_

#include "delegate/kernels/kernels.h"

namespace bireal {

extern const BconvKernel kBconvPortable;

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_BCONV_PORTABLE_H_
