#include "delegate/steps/add.h"

#include <algorithm>
#include <utility>

#include "delegate/model.h"

namespace bireal {

namespace {

// The shape of a sum by TensorFlow's rules, which are NumPy's: axes are compared from the last one
// on, and an axis of 1 or a missing one becomes as long as the other's.
std::vector<int> BroadcastShape(const TfLiteTensor& a, const TfLiteTensor& b) {
  std::vector<int> dims(std::max(a.dims->size, b.dims->size));
  for (int i = 1; i <= static_cast<int>(dims.size()); ++i) {
    const int of_a = i <= a.dims->size ? a.dims->data[a.dims->size - i] : 1;
    const int of_b = i <= b.dims->size ? b.dims->data[b.dims->size - i] : 1;
    if (of_a != of_b && of_a != 1 && of_b != 1) {
      Fail("inputs: have %d and %d elements along one axis, must have equally many or 1", of_a,
           of_b);
    }
    dims[dims.size() - i] = std::max(of_a, of_b);
  }
  return dims;
}

int Activation(const TfLiteNode& node) {
  return static_cast<const TfLiteAddParams*>(node.builtin_data)->activation;
}

}  // namespace

bool AddStep::Claims(const TfLiteContext& context, const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 2 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const TfLiteTensor* a = FindFloat(context, node.inputs->data[0]);
  const TfLiteTensor* b = FindFloat(context, node.inputs->data[1]);
  const TfLiteTensor* sum = FindFloat(context, node.outputs->data[0]);
  if (a == nullptr || b == nullptr || sum == nullptr) return false;
  // Constants need not be aligned, and the interpreter has an ADD for them.
  const bool has_constant =
      a->allocation_type == kTfLiteMmapRo || b->allocation_type == kTfLiteMmapRo;
  return !has_constant && SameShape(*a, *b) && a->dims->size > 0 &&
         (Activation(node) == kTfLiteActNone || Activation(node) == kTfLiteActRelu);
}

AddStep::AddStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                 const Kernels& kernels)
    : RowStep(std::move(name), node, kernels),
      epilogue_{Epilogue::kAdd, Activation(node) == kTfLiteActRelu, {}, nullptr, &tail_} {
  AddInput(node.inputs->data[1]);
}

void AddStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& a = Input(*context, 0);
  const TfLiteTensor& b = Input(*context, 1);
  RequireType(a, {kTfLiteFloat32}, "first input");
  RequireType(b, {kTfLiteFloat32}, "second input");
  broadcasts_ = !SameShape(a, b);
  const std::vector<int> dims = BroadcastShape(a, b);
  if (broadcasts_) {
    operands_[0] = Broadcast(a, dims);
    operands_[1] = Broadcast(b, dims);
  }
  channels_ = dims.back();
  ResolveOutputs(context, pool, dims, 1);
  rows_ = RowCount(Output(*context));
}

// `dims` are those of the sum, to which the operand's shape has been found to fit.
AddStep::Operand AddStep::Broadcast(const TfLiteTensor& operand, const std::vector<int>& dims) {
  const size_t axes = dims.size();
  const size_t missing = axes - operand.dims->size;
  const auto dim = [&](size_t axis) {
    return axis < missing ? 1 : operand.dims->data[axis - missing];
  };
  Operand result;
  result.step = dim(axes - 1) == 1 ? 0 : 1;
  // Axis by axis from the first: each row so far becomes as many as the axis has.
  result.rows = {0};
  for (size_t axis = 0; axis + 1 < axes; ++axis) {
    std::vector<size_t> rows;
    for (size_t row : result.rows) {
      for (int i = 0; i < dims[axis]; ++i)
        rows.push_back(row * dim(axis) + (dim(axis) == 1 ? 0 : i));
    }
    result.rows = std::move(rows);
  }
  for (size_t& row : result.rows) row *= dim(axes - 1);
  return result;
}

void AddStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  ForRows(pool, rows_, [&](size_t begin, size_t rows, int thread) {
    const size_t offset = begin * channels_;
    const size_t count = rows * channels_;
    const auto* a = static_cast<const float*>(inputs[0]);
    const auto* b = static_cast<const float*>(inputs[1]);
    float* out = static_cast<float*>(outputs[0]) + offset;
    if (broadcasts_) {
      for (size_t row = 0; row < rows; ++row) {
        const float* a_row = a + operands_[0].rows[begin + row];
        const float* b_row = b + operands_[1].rows[begin + row];
        for (int c = 0; c < channels_; ++c) {
          out[row * channels_ + c] = a_row[c * operands_[0].step] + b_row[c * operands_[1].step];
        }
      }
    } else {
      for (size_t i = 0; i < count; ++i) out[i] = a[offset + i] + b[offset + i];
    }
    if (epilogue_.relu) {
      for (size_t i = 0; i < count; ++i) out[i] = out[i] < 0.0f ? 0.0f : out[i];
    }
    auto* signs =
        tail_.packs() ? static_cast<uint32_t*>(outputs[1]) + begin * WordsFor(channels_) : nullptr;
    tail_.Run(nullptr, 0, thread, out, channels_, rows, out, signs);
  });
}

}  // namespace bireal
