// The steps of a run of nodes that the interpreter hands to the delegate as one.
#ifndef BIREAL_DELEGATE_PARTITION_H_
#define BIREAL_DELEGATE_PARTITION_H_

#include <memory>
#include <string>
#include <vector>

#include "delegate/aligned.h"
#include "delegate/kernels/kernels.h"
#include "delegate/profile.h"
#include "delegate/step.h"
#include "delegate/tflite_abi.h"
#include "delegate/thread_pool.h"

namespace bireal {

class Partition {
 public:
  // Throws ModelError.
  Partition(TfLiteContext* context, const TfLiteDelegateParams& params, const Kernels& kernels,
            ThreadPool& pool);

  // Less than the nodes where one step does the work of several.
  size_t step_count() const { return steps_.size(); }

  // From now on every Invoke says in `profile` when it starts, which is when what comes `before`
  // is done, and when each step is done.
  void WriteProfile(Profile* profile, const std::string& before) {
    profile_ = profile;
    before_ = before;
  }

  // Throws ModelError.
  void Prepare(TfLiteContext* context);

  // Throws ModelError when a tensor is not as Prepare left it.
  void Invoke(TfLiteContext* context);

 private:
  struct PlannedStep {
    std::unique_ptr<Step> step;
    // One for each input and output: where the partition keeps the tensor if only its own steps
    // see it. Null where it is the interpreter's, or an output that nobody reads.
    std::vector<void*> inputs;
    std::vector<void*> outputs;
    // Of the first output, if the step may place it: see Step::Place.
    size_t pixel_stride = 0;
    bool grows = false;
  };

  // Memory for a tensor that the interpreter does not see, and then for another.
  struct Buffer {
    AlignedArray<char> data;
    size_t size = 0;
    bool taken = false;
  };

  // The smallest free buffer of that many bytes, or a new one.
  Buffer* TakeBuffer(size_t size);
  // How many steps read the tensor; one more if it leaves the partition.
  int Readers(int tensor) const;
  // The first step after that one that reads an output of it; as many as there are steps if none
  // does.
  size_t FirstReader(size_t index) const;
  // Moves what only copies to before its first reader, from where it can be taken over.
  void DelayCopies();
  // Lets steps do by themselves what steps before them do with the channels.
  void ReadThrough();
  // Lets steps take over what other steps do with their outputs.
  void Fuse();
  // Lets tensors that grow, channels after channels, lie in the memory of the last of them.
  void PlaceGrowing(const TfLiteContext& context);

  ThreadPool& pool_;
  std::vector<PlannedStep> steps_;
  std::vector<bool> internal_;  // By tensor: made here and used nowhere else.
  std::vector<std::unique_ptr<Buffer>> buffers_;
  Profile* profile_ = nullptr;
  std::string before_;
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_PARTITION_H_
