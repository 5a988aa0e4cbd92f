#ifndef BIREAL_DELEGATE_STEPS_ADD_H_
#define BIREAL_DELEGATE_STEPS_ADD_H_

#include <cstddef>
#include <string>
#include <vector>

#include "delegate/kernels/kernels.h"
#include "delegate/steps/row_step.h"

namespace bireal {

// TensorFlow Lite's ADD of two float tensors, with RELU or without: the shortcut of a residual
// block whose convolution another partition computed. It can do on the way what follows the sum.
class AddStep : public RowStep {
 public:
  // Whether the node is such an ADD, of two tensors of one shape. They may have others later, when
  // an input of the graph is resized: then the sum is what broadcasting makes of them.
  static bool Claims(const TfLiteContext& context, const TfLiteNode& node);

  AddStep(std::string name, const TfLiteContext& context, const TfLiteNode& node,
          const Kernels& kernels);

  const Epilogue* epilogue() const override { return &epilogue_; }

  int in_place_input() const override { return broadcasts_ ? -1 : 0; }

  void Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const override;

 protected:
  void Resolve(TfLiteContext* context, const ThreadPool& pool) override;

 private:
  // One of the two tensors: where its values are that each row of the sum needs.
  struct Operand {
    std::vector<size_t> rows;  // By row of the sum: an index of the operand.
    size_t step = 1;           // From a channel to the next; 0 if there is but one.
  };

  static Operand Broadcast(const TfLiteTensor& operand, const std::vector<int>& dims);

  const Epilogue epilogue_;
  size_t rows_ = 0;
  int channels_ = 0;
  bool broadcasts_ = false;
  Operand operands_[2];  // If it does.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_STEPS_ADD_H_
