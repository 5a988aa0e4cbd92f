#include "delegate/partition.h"

#include <unordered_map>

#include "delegate/denormals.h"
#include "delegate/model.h"

namespace bireal {
namespace {

// The interpreter's own memory, checked to be what the step was prepared for.
void* TensorData(const TfLiteContext& context, const Step& step, int index, size_t bytes) {
  const TfLiteTensor& tensor = context.tensors[index];
  if (tensor.data == nullptr || tensor.bytes != bytes) {
    Fail("%s: tensor %d has %zu bytes, was prepared with %zu", step.name().c_str(), index,
         tensor.data == nullptr ? size_t{0} : tensor.bytes, bytes);
  }
  const bool has_words = tensor.type == kTfLiteFloat32 || tensor.type == kTfLiteInt32;
  if (has_words && reinterpret_cast<uintptr_t>(tensor.data) % alignof(uint32_t) != 0) {
    Fail("%s: tensor %d is not aligned to 4 bytes", step.name().c_str(), index);
  }
  return tensor.data;
}

}  // namespace

Partition::Partition(TfLiteContext* context, const TfLiteDelegateParams& params,
                     const Kernels& kernels, ThreadPool& pool)
    : pool_(pool), internal_(context->tensors_size, false) {
  for (int i = 0; i < params.nodes_to_replace->size; ++i) {
    const int index = params.nodes_to_replace->data[i];
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) {
      Fail("node %d does not exist", index);
    }
    PlannedStep planned;
    planned.step = MakeStep(*context, index, *node, registration->custom_name, kernels);
    internal_[planned.step->output()] = true;
    steps_.push_back(std::move(planned));
  }
  for (int i = 0; i < params.output_tensors->size; ++i) {
    internal_[params.output_tensors->data[i]] = false;
  }
}

void Partition::Prepare(TfLiteContext* context) {
  for (const PlannedStep& planned : steps_) planned.step->Prepare(context, pool_);

  buffers_.clear();
  std::unordered_map<int, void*> buffer_of;
  for (PlannedStep& planned : steps_) {
    const int input = planned.step->input();
    const int output = planned.step->output();
    planned.input = planned.output = nullptr;
    if (internal_[input]) {
      const auto buffer = buffer_of.find(input);
      if (buffer == buffer_of.end()) {
        Fail("%s: reads tensor %d before it is written", planned.step->name().c_str(), input);
      }
      planned.input = buffer->second;
    }
    if (internal_[output]) {
      // operator new[] aligns for every fundamental type.
      buffers_.emplace_back(new char[planned.step->output_bytes()]);
      planned.output = buffers_.back().get();
      if (!buffer_of.emplace(output, planned.output).second) {
        Fail("%s: writes tensor %d, as another op does", planned.step->name().c_str(), output);
      }
    }
    // A later step that resized a tensor of an earlier one would show here.
    if (context->tensors[input].bytes != planned.step->input_bytes() ||
        context->tensors[output].bytes != planned.step->output_bytes()) {
      Fail("%s: another op changes the shape of its tensors", planned.step->name().c_str());
    }
  }
}

void Partition::Invoke(TfLiteContext* context) {
  const FlushDenormals flush_denormals;
  for (const PlannedStep& planned : steps_) {
    const Step& step = *planned.step;
    const void* input = planned.input;
    void* output = planned.output;
    if (input == nullptr) input = TensorData(*context, step, step.input(), step.input_bytes());
    if (output == nullptr) output = TensorData(*context, step, step.output(), step.output_bytes());
    step.Run(input, output, pool_);
  }
}

}  // namespace bireal
