// How a convolution of few input channels is computed, row by row.
#ifndef BIREAL_DELEGATE_STEPS_CONV_ROWS_H_
#define BIREAL_DELEGATE_STEPS_CONV_ROWS_H_

#include <cstddef>
#include <memory>

#include "delegate/kernels/kernels.h"
#include "delegate/sources.h"
#include "delegate/tflite_abi.h"

namespace bireal {

class ConvRows {
 public:
  virtual ~ConvRows() = default;

  // Bytes of a prepared row: what Compute reads of an input row. All zeros stand for a row outside
  // of the image.
  virtual size_t row_bytes() const = 0;
  // Bytes of memory for a call of the functions below, nobody else's meanwhile.
  virtual size_t scratch_bytes() const = 0;

  // Prepares an input row.
  virtual void Prepare(const void* input, void* scratch, void* row) const = 0;
  // Output row y of filter_h prepared ones.
  virtual void Compute(int y, const void* const* rows, void* scratch, float* out) const = 0;
};

// Of floats, or of pixels that become floats row by row. `pixels` is null or lives as long.
std::unique_ptr<ConvRows> MakeFloatRows(const FloatKernel& kernel, const ConvShape& shape,
                                        const TfLiteTensor& filter, const TfLiteTensor& bias,
                                        const Pixels* pixels);

// Whether pixels can be multiplied as they are by the weights, which are int8: then all their
// channels have the same factor, which the sums can be multiplied by.
bool MultipliesPixels(const Pixels& pixels, const TfLiteTensor& filter);

// Of pixels as they are, in one group of channels, and weights of int8.
std::unique_ptr<ConvRows> MakePixelRows(const ByteKernel& kernel, const ConvShape& shape,
                                        const TfLiteTensor& filter, const TfLiteTensor& bias,
                                        const Pixels& pixels);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_CONV_ROWS_H_
