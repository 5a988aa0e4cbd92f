// LceBMaxPool2d, on plain arrays. It is fast enough everywhere as the compiler makes it.
#ifndef BIREAL_DELEGATE_KERNELS_MAX_POOL_H_
#define BIREAL_DELEGATE_KERNELS_MAX_POOL_H_

#include <cstdint>

#include "delegate/kernels/window.h"

namespace bireal {

// The maximum over {-1, +1} is the bitwise AND over the window's pixels that lie inside the
// image. One output row of one image, `words` words to a pixel.
void MaxPoolPacked(const Window& window, int words, const uint32_t* input, int out_y,
                   uint32_t* out);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_MAX_POOL_H_
