#include "delegate/partition.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "delegate/denormals.h"
#include "delegate/model.h"
#include "delegate/ops.h"
#include "delegate/sources.h"

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
  std::vector<PlannedNode> nodes;
  for (int i = 0; i < params.nodes_to_replace->size; ++i) {
    PlannedNode planned = {params.nodes_to_replace->data[i], nullptr, nullptr};
    if (context->GetNodeAndRegistration(context, planned.index, &planned.node,
                                        &planned.registration) != kTfLiteOk) {
      Fail("node %d does not exist", planned.index);
    }
    nodes.push_back(planned);
  }
  const Sources sources(*context, nodes);
  for (const PlannedNode& node : nodes) {
    if (sources.Converts(*node.node)) continue;  // What reads it reads through it.
    PlannedStep planned;
    planned.step = MakeStep(*context, sources, node.index, *node.node, *node.registration, kernels);
    for (const Step::Port& output : planned.step->outputs()) internal_[output.tensor] = true;
    steps_.push_back(std::move(planned));
  }
  for (int i = 0; i < params.output_tensors->size; ++i) {
    const int tensor = params.output_tensors->data[i];
    if (sources.IsConverted(tensor)) {
      Fail(
          "tensor %d, which a convolution reads through, must not be an output as well. The option "
          "float_ops=litert leaves such a convolution to the interpreter",
          tensor);
    }
    internal_[tensor] = false;
  }
  DelayCopies();
  ReadThrough();
  Fuse();
}

int Partition::Readers(int tensor) const {
  int readers = internal_[tensor] ? 0 : 1;
  for (const PlannedStep& planned : steps_) {
    for (const Step::Port& input : planned.step->inputs()) readers += input.tensor == tensor;
  }
  return readers;
}

size_t Partition::FirstReader(size_t index) const {
  const std::vector<Step::Port>& outputs = steps_[index].step->outputs();
  const auto reads = [&](const PlannedStep& planned) {
    return std::any_of(outputs.begin(), outputs.end(), [&](const Step::Port& output) {
      return planned.step->reads(output.tensor);
    });
  };
  const auto begin = steps_.begin() + static_cast<ptrdiff_t>(index) + 1;
  return static_cast<size_t>(std::find_if(begin, steps_.end(), reads) - steps_.begin());
}

void Partition::DelayCopies() {
  for (size_t i = steps_.size(); i-- > 0;) {
    if (!steps_[i].step->only_copies()) continue;
    const auto begin = steps_.begin() + static_cast<ptrdiff_t>(i);
    std::rotate(begin, begin + 1, steps_.begin() + static_cast<ptrdiff_t>(FirstReader(i)));
  }
}

void Partition::ReadThrough() {
  for (size_t i = steps_.size(); i-- > 0;) {
    const Step& before = *steps_[i].step;
    const Epilogue* epilogue = before.epilogue();
    const int value = before.outputs()[0].tensor;
    if (epilogue == nullptr || epilogue->kind != Epilogue::kChannelOps || !internal_[value])
      continue;
    // It is worth it where the value need not exist, since the others are taken over.
    const auto needs_value = [&](const PlannedStep& planned) {
      const Epilogue* own = planned.step->epilogue();
      const bool can_be_taken_over = own != nullptr && (own->kind == Epilogue::kPackSigns ||
                                                        own->kind == Epilogue::kChannelOps);
      return planned.step->reads(value) && !can_be_taken_over && !planned.step->reads_through();
    };
    if (std::any_of(steps_.begin(), steps_.end(), needs_value)) continue;
    Step* reader = nullptr;
    for (PlannedStep& planned : steps_) {
      if (planned.step->reads(value) && planned.step->reads_through() &&
          planned.step->ReadThrough(before)) {
        reader = planned.step.get();
      }
    }
    if (reader == nullptr || Readers(value) != 0) continue;
    reader->AddNameBefore(before);
    steps_.erase(steps_.begin() + static_cast<ptrdiff_t>(i));
  }
}

void Partition::Fuse() {
  for (size_t i = 0; i < steps_.size(); ++i) {
    std::unique_ptr<Step>& next = steps_[i].step;
    const Epilogue* epilogue = next->epilogue();
    if (epilogue == nullptr) continue;
    const bool keeps_value = epilogue->kind == Epilogue::kPackSigns;
    // Who takes over signs of other values than its own does not write those.
    const int own = next->outputs()[0].tensor;
    const bool has_own = next->outputs().size() > 1;
    if (has_own && (!keeps_value || Readers(own) != 0)) continue;
    // The later of two convolutions that are added, so that the other sum is there before it.
    for (size_t j = i; j-- > 0;) {
      Step& step = *steps_[j].step;
      const int value = step.outputs()[0].tensor;
      if (!next->reads(value)) continue;
      const auto is_read_by_others = [&](const Step::Port& output) {
        return next->reads(output.tensor) && Readers(output.tensor) != 1;
      };
      if (!keeps_value &&
          (FirstReader(j) != i ||
           std::any_of(step.outputs().begin(), step.outputs().end(), is_read_by_others))) {
        continue;
      }
      if (!step.TakeOver(next)) continue;
      if (keeps_value) {
        if (has_own) internal_[own] = false;  // It no longer exists.
        steps_.erase(steps_.begin() + static_cast<ptrdiff_t>(i));
        i = j - 1;
      } else {
        internal_[value] = false;
        // The step moves to where all that it reads now is known to be ready.
        std::swap(steps_[i], steps_[j]);
        steps_.erase(steps_.begin() + static_cast<ptrdiff_t>(j));
        i -= 2;
      }
      break;  // The step may be one to be taken over now: it is next.
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
    best->data = MakeAligned<char>(size);
  }
  best->taken = true;
  return best;
}

void Partition::PlaceGrowing(const TfLiteContext& context) {
  std::unordered_map<int, PlannedStep*> writer;  // By tensor: a step that may place it.
  for (PlannedStep& planned : steps_) {
    planned.pixel_stride = 0;
    planned.grows = false;
    const int input = planned.step->growing_input();
    if (input < 0) continue;
    const int output = planned.step->outputs()[0].tensor;
    const int grown = planned.step->inputs()[input].tensor;
    planned.pixel_stride = LastDim(context.tensors[output]);
    planned.grows = internal_[output] && writer.count(grown) != 0 && Readers(grown) == 1;
    if (internal_[output] && planned.step->can_leave_gaps()) writer[output] = &planned;
  }
  // From the last one, which has no gaps, to those that it is made of.
  for (auto planned = steps_.rbegin(); planned != steps_.rend(); ++planned) {
    if (planned->pixel_stride == 0) continue;
    Step& step = *planned->step;
    step.Place(planned->pixel_stride, planned->grows);
    if (!planned->grows) continue;
    writer[step.inputs()[step.growing_input()].tensor]->pixel_stride = planned->pixel_stride;
  }
}

void Partition::Prepare(TfLiteContext* context) {
  for (const PlannedStep& planned : steps_) planned.step->Prepare(context, pool_);
  PlaceGrowing(*context);

  std::unordered_map<int, size_t> last_reader;
  for (size_t i = 0; i < steps_.size(); ++i) {
    for (const Step::Port& input : steps_[i].step->inputs()) last_reader[input.tensor] = i;
  }

  buffers_.clear();
  std::unordered_map<int, Buffer*> buffer_of;
  for (size_t i = 0; i < steps_.size(); ++i) {
    PlannedStep& planned = steps_[i];
    const Step& step = *planned.step;
    const auto done = [&](int tensor) {
      const auto reader = last_reader.find(tensor);
      return internal_[tensor] && (reader == last_reader.end() || reader->second <= i);
    };
    planned.inputs.clear();
    for (const Step::Port& input : step.inputs()) {
      const auto found = buffer_of.find(input.tensor);
      if (internal_[input.tensor] && (found == buffer_of.end() || found->second == nullptr)) {
        Fail("%s: reads tensor %d before it is written", step.name().c_str(), input.tensor);
      }
      planned.inputs.push_back(internal_[input.tensor] ? found->second->data.get() : nullptr);
    }
    planned.outputs.clear();
    for (size_t port = 0; port < step.outputs().size(); ++port) {
      const Step::Port& output = step.outputs()[port];
      const bool skipped = step.skips_unread_output() && last_reader.count(output.tensor) == 0;
      Buffer* buffer = nullptr;
      if (internal_[output.tensor] && !skipped) {
        const bool is_placed = port == 0 && planned.pixel_stride != 0;
        const int reused = port != 0       ? -1
                           : planned.grows ? step.growing_input()
                                           : step.in_place_input();
        if (reused >= 0 && done(step.inputs()[reused].tensor)) {
          std::swap(buffer, buffer_of[step.inputs()[reused].tensor]);
        } else if (is_placed) {
          const size_t pixel_bytes = planned.pixel_stride * sizeof(float);
          buffer = TakeBuffer(RowCount(context->tensors[output.tensor]) * pixel_bytes);
        } else {
          buffer = TakeBuffer(output.bytes);
        }
      }
      if (!buffer_of.emplace(output.tensor, buffer).second) {
        Fail("%s: writes tensor %d, as another op does", step.name().c_str(), output.tensor);
      }
      planned.outputs.push_back(buffer != nullptr ? buffer->data.get() : nullptr);
    }
    // What nobody reads any more can hold the outputs of later steps.
    for (const auto* ports : {&step.inputs(), &step.outputs()}) {
      for (const Step::Port& port : *ports) {
        if (done(port.tensor) && buffer_of[port.tensor] != nullptr) {
          buffer_of[port.tensor]->taken = false;
        }
      }
    }
    // A later step that resized a tensor of an earlier one would show here.
    for (const auto* ports : {&step.inputs(), &step.outputs()}) {
      for (const Step::Port& port : *ports) {
        if (BytesOf(context->tensors[port.tensor], step.name().c_str()) != port.bytes) {
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
