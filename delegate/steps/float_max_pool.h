#ifndef BIREAL_DELEGATE_STEPS_FLOAT_MAX_POOL_H_
#define BIREAL_DELEGATE_STEPS_FLOAT_MAX_POOL_H_

#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// The window that a pool's filter moves over (height, width) pixels. Throws ModelError.
Window ResolvePool(const PoolFilter& filter, int height, int width);

// TensorFlow Lite's MAX_POOL_2D of floats, with a filter of 2 or 3 rows and columns, with RELU or
// without.
class FloatMaxPoolStep : public Step {
 public:
  // Whether the node is such a MAX_POOL_2D.
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  FloatMaxPoolStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
                   const Kernels& kernels);

  const Epilogue* epilogue() const override { return relu_ ? nullptr : &epilogue_; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const FloatKernel& kernel_;
  Epilogue epilogue_;
  const bool relu_;
  Window window_ = {};
  int channels_ = 0;
  int rows_ = 0;  // Of the output, over all images.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_FLOAT_MAX_POOL_H_
