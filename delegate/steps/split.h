#ifndef BIREAL_DELEGATE_STEPS_SPLIT_H_
#define BIREAL_DELEGATE_STEPS_SPLIT_H_

#include <cstddef>
#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"

namespace bireal {

// TensorFlow Lite's SPLIT_V of the channels of a float tensor into two parts.
class SplitStep : public Step {
 public:
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  SplitStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
            const Kernels& kernels);

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  const int sizes_;  // A constant.
  size_t rows_ = 0;
  int channels_[2] = {};  // Of the parts.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_SPLIT_H_
