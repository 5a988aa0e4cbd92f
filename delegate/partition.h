// The steps of a run of nodes that the interpreter hands to the delegate as one.
#ifndef BIREAL_DELEGATE_PARTITION_H_
#define BIREAL_DELEGATE_PARTITION_H_

#include <memory>
#include <vector>

#include "delegate/kernels/kernels.h"
#include "delegate/step.h"
#include "delegate/tflite_abi.h"
#include "delegate/thread_pool.h"

namespace bireal {

class Partition {
 public:
  // Throws ModelError.
  Partition(TfLiteContext* context, const TfLiteDelegateParams& params, const Kernels& kernels,
            ThreadPool& pool);

  // Throws ModelError.
  void Prepare(TfLiteContext* context);

  // Throws ModelError when a tensor is not as Prepare left it.
  void Invoke(TfLiteContext* context);

 private:
  struct PlannedStep {
    std::unique_ptr<Step> step;
    // Where the partition keeps the input and the output, if only its own steps see them;
    // null when they belong to the interpreter.
    void* input = nullptr;
    void* output = nullptr;
  };

  ThreadPool& pool_;
  std::vector<PlannedStep> steps_;
  std::vector<bool> internal_;  // By tensor: made here and used nowhere else.
  std::vector<std::unique_ptr<char[]>> buffers_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_PARTITION_H_
