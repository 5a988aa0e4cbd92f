// A filter sliding over an image, as convolutions and pooling have it.
#ifndef BIREAL_DELEGATE_KERNELS_WINDOW_H_
#define BIREAL_DELEGATE_KERNELS_WINDOW_H_

namespace bireal {

// Tap (fy, fx) of output pixel (oy, ox) looks at the input pixel
// (oy * stride_h - pad_top + fy * dilation_h, ...), which may lie outside the image.
struct Window {
  int in_h, in_w;
  int out_h, out_w;
  int filter_h, filter_w;
  int stride_h, stride_w;
  int dilation_h, dilation_w;
  int pad_top, pad_left;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_WINDOW_H_
