#ifndef BIREAL_DELEGATE_STEPS_MAX_POOL_H_
#define BIREAL_DELEGATE_STEPS_MAX_POOL_H_

#include <string>

#include "delegate/kernels/kernels.h"
#include "delegate/kernels/window.h"
#include "delegate/model.h"
#include "delegate/step.h"

namespace bireal {

// LceBMaxPool2d: max-pooling of packed bits.
class MaxPoolStep : public Step {
 public:
  // Throws ModelError.
  MaxPoolStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
              const Kernels& kernels);

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  Padding::Kind padding_;
  Window window_ = {};
  int words_ = 0;
  int rows_ = 0;  // Of the whole batch.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_MAX_POOL_H_
