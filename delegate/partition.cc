#include "delegate/partition.h"

#include <unordered_map>

#include "delegate/denormals.h"
#include "delegate/lce_ops.h"
#include "delegate/model.h"
#include "delegate/steps/add.h"
#include "delegate/steps/bconv.h"
#include "delegate/steps/quantize.h"

namespace bireal {
namespace {

// The interpreter's own memory, checked to be what the step was prepared for.
void* TensorData(const TfLiteContext& context, const Step& step, const Step::Port& port) {
  const TfLiteTensor& tensor = context.tensors[port.tensor];
  if (tensor.data == nullptr || tensor.bytes != port.bytes) {
    Fail("%s: tensor %d has %zu bytes, was prepared with %zu", step.name().c_str(), port.tensor,
         tensor.data == nullptr ? size_t{0} : tensor.bytes, port.bytes);
  }
  const bool has_words = tensor.type == kTfLiteFloat32 || tensor.type == kTfLiteInt32;
  if (has_words && reinterpret_cast<uintptr_t>(tensor.data) % alignof(uint32_t) != 0) {
    Fail("%s: tensor %d is not aligned to 4 bytes", step.name().c_str(), port.tensor);
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
    planned.step = MakeStep(*context, index, *node, *registration, kernels);
    internal_[planned.step->outputs()[0].tensor] = true;
    steps_.push_back(std::move(planned));
  }
  for (int i = 0; i < params.output_tensors->size; ++i) {
    internal_[params.output_tensors->data[i]] = false;
  }
  FuseShortcuts();
  FuseQuantize(*context);
}

int Partition::Readers(int tensor) const {
  int readers = internal_[tensor] ? 0 : 1;
  for (const PlannedStep& planned : steps_) {
    for (const Step::Port& input : planned.step->inputs()) readers += input.tensor == tensor;
  }
  return readers;
}

void Partition::FuseShortcuts() {
  for (size_t i = 0; i < steps_.size(); ++i) {
    const auto* add = dynamic_cast<const AddStep*>(steps_[i].step.get());
    if (add == nullptr) continue;
    // The later of two convolutions, so that the other sum is there before it.
    for (size_t j = i; j-- > 0;) {
      auto* bconv = dynamic_cast<BconvStep*>(steps_[j].step.get());
      if (bconv == nullptr || bconv->has_shortcut()) continue;
      const int value = bconv->outputs()[0].tensor;
      const int a = add->inputs()[0].tensor;
      const int b = add->inputs()[1].tensor;
      if ((value != a && value != b) || Readers(value) != 1) continue;
      internal_[value] = false;  // It no longer exists.
      bconv->TakeAdd(*add, value == a ? b : a);
      // The convolution moves to where the shortcut is known to be ready.
      steps_[i].step = std::move(steps_[j].step);
      steps_.erase(steps_.begin() + static_cast<ptrdiff_t>(j));
      --i;
      break;
    }
  }
}

void Partition::FuseQuantize(const TfLiteContext& context) {
  for (size_t i = 0; i < steps_.size(); ++i) {
    const auto* quantize = dynamic_cast<const QuantizeStep*>(steps_[i].step.get());
    if (quantize == nullptr) continue;
    const int value = quantize->inputs()[0].tensor;
    if (context.tensors[value].type != kTfLiteFloat32) continue;
    for (size_t j = 0; j < i; ++j) {
      Step* step = steps_[j].step.get();
      if (step->outputs()[0].tensor != value) continue;
      auto* bconv = dynamic_cast<BconvStep*>(step);
      auto* add = dynamic_cast<AddStep*>(step);
      if (bconv != nullptr && !bconv->packs()) {
        bconv->TakeQuantize(*quantize);
      } else if (add != nullptr && !add->packs()) {
        add->TakeQuantize(*quantize);
      } else {
        continue;
      }
      steps_.erase(steps_.begin() + static_cast<ptrdiff_t>(i));
      --i;
      break;
    }
  }
}

Partition::Buffer* Partition::TakeBuffer(size_t size) {
  Buffer* best = nullptr;
  for (const auto& buffer : buffers_) {
    if (buffer->taken || buffer->size < size) continue;
    if (best == nullptr || buffer->size < best->size) best = buffer.get();
  }
  if (best == nullptr) {
    buffers_.push_back(std::make_unique<Buffer>());
    best = buffers_.back().get();
    best->size = size;
    best->data.reset(new char[size]);  // Aligned for every fundamental type.
  }
  best->taken = true;
  return best;
}

void Partition::Prepare(TfLiteContext* context) {
  for (const PlannedStep& planned : steps_) planned.step->Prepare(context, pool_);

  std::unordered_map<int, size_t> last_reader;
  for (size_t i = 0; i < steps_.size(); ++i) {
    for (const Step::Port& input : steps_[i].step->inputs()) last_reader[input.tensor] = i;
  }

  buffers_.clear();
  std::unordered_map<int, Buffer*> buffer_of;
  for (size_t i = 0; i < steps_.size(); ++i) {
    PlannedStep& planned = steps_[i];
    const Step& step = *planned.step;
    planned.outputs.clear();
    for (const Step::Port& output : step.outputs()) {
      const bool skipped = step.skips_unread_output() && last_reader.count(output.tensor) == 0;
      Buffer* buffer = internal_[output.tensor] && !skipped ? TakeBuffer(output.bytes) : nullptr;
      if (!buffer_of.emplace(output.tensor, buffer).second) {
        Fail("%s: writes tensor %d, as another op does", step.name().c_str(), output.tensor);
      }
      planned.outputs.push_back(buffer != nullptr ? buffer->data.get() : nullptr);
    }
    planned.inputs.clear();
    for (const Step::Port& input : step.inputs()) {
      const auto found = buffer_of.find(input.tensor);
      if (internal_[input.tensor] && (found == buffer_of.end() || found->second == nullptr)) {
        Fail("%s: reads tensor %d before it is written", step.name().c_str(), input.tensor);
      }
      planned.inputs.push_back(internal_[input.tensor] ? found->second->data.get() : nullptr);
    }
    // What nobody reads any more can hold the outputs of later steps.
    for (const auto* ports : {&step.inputs(), &step.outputs()}) {
      for (const Step::Port& port : *ports) {
        const auto reader = last_reader.find(port.tensor);
        const bool done = reader == last_reader.end() || reader->second <= i;
        if (internal_[port.tensor] && done && buffer_of[port.tensor] != nullptr) {
          buffer_of[port.tensor]->taken = false;
        }
      }
    }
    // A later step that resized a tensor of an earlier one would show here.
    for (const auto* ports : {&step.inputs(), &step.outputs()}) {
      for (const Step::Port& port : *ports) {
        if (context->tensors[port.tensor].bytes != port.bytes) {
          Fail("%s: another op changes the shape of its tensors", step.name().c_str());
        }
      }
    }
  }
}

void Partition::Invoke(TfLiteContext* context) {
  const FlushDenormals flush_denormals;
  if (profile_ != nullptr) profile_->Done(before_);
  for (const PlannedStep& planned : steps_) {
    const Step& step = *planned.step;
    const void* inputs[Step::kMaxPorts];
    void* outputs[Step::kMaxPorts];
    for (size_t i = 0; i < step.inputs().size(); ++i) {
      const Step::Port& port = step.inputs()[i];
      inputs[i] = internal_[port.tensor] ? planned.inputs[i] : TensorData(*context, step, port);
    }
    for (size_t i = 0; i < step.outputs().size(); ++i) {
      const Step::Port& port = step.outputs()[i];
      outputs[i] = internal_[port.tensor] ? planned.outputs[i] : TensorData(*context, step, port);
    }
    step.Run(inputs, outputs, pool_);
    if (profile_ != nullptr) profile_->Done(step.name());
  }
}

}  // namespace bireal
