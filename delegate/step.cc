#include "delegate/step.h"

#include "delegate/model.h"

namespace bireal {

const TfLiteTensor& Step::Input(const TfLiteContext& context, int port) const {
  return TensorAt(context, inputs_[port].tensor, "input");
}

const TfLiteTensor& Step::Output(const TfLiteContext& context, int port) const {
  return TensorAt(context, outputs_[port].tensor, "output");
}

void Step::Resize(TfLiteContext* context, const std::vector<int>& dims, int port) const {
  ResizeTensor(context, outputs_[port].tensor, dims, "output");
}

void Step::Prepare(TfLiteContext* context, const ThreadPool& pool) {
  Named(name_, [&] {
    for (const Port& output : outputs_) {
      const TfLiteTensor& tensor = TensorAt(*context, output.tensor, "output");
      if (tensor.allocation_type == kTfLiteMmapRo) Fail("output: is a constant of the model");
      for (const Port& input : inputs_) {
        if (input.tensor == output.tensor)
          Fail("output: is its own input, tensor %d", input.tensor);
      }
    }
    for (Port& port : inputs_) {
      port.bytes = BytesOf(TensorAt(*context, port.tensor, "input"), "input");
    }
    Resolve(context, pool);
    for (Port& port : outputs_) port.bytes = BytesOf(context->tensors[port.tensor], "output");
  });
}

}  // namespace bireal
