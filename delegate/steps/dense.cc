#include "delegate/steps/dense.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "delegate/kernels/bits.h"
#include "delegate/model.h"

namespace bireal {
namespace {

// What a thread takes at once, of one block of filters: a whole number of every kernel's tiles,
// whose input stays in the first-level cache.
constexpr int kChunkPixels = 48;

const TfLiteConvParams& ConvParams(const TfLiteNode& node) {
  return *static_cast<const TfLiteConvParams*>(node.builtin_data);
}

const TfLiteFullyConnectedParams& FullyConnectedParams(const TfLiteNode& node) {
  return *static_cast<const TfLiteFullyConnectedParams*>(node.builtin_data);
}

// Whether the node multiplies floats by constants, and has a bias where it must.
bool HasFloatWeights(const TfLiteContext& context, const Sources& sources, const TfLiteNode& node,
                     int rank, bool needs_bias) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 3 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const int bias = node.inputs->data[2];
  const bool has_bias = bias != kTfLiteOptionalTensor;
  return FindFloat(context, node.inputs->data[0]) != nullptr &&
         !sources.IsConverted(node.inputs->data[0]) &&
         FindFloat(context, node.outputs->data[0]) != nullptr &&
         sources.FindWeights(context, node.inputs->data[1], rank) != nullptr &&
         (has_bias ? IsConstant(FindFloat(context, bias), 1) : !needs_bias);
}

bool IsSupported(int activation) {
  return activation == kTfLiteActNone || activation == kTfLiteActRelu;
}

}  // namespace

DenseStep::DenseStep(std::string name, const Sources& sources, const TfLiteNode& node,
                     const Kernels& kernels, int activation)
    : Step(std::move(name), node),
      kernel_(*kernels.float_ops),
      filter_(sources.Stored(node.inputs->data[1])),
      bias_(node.inputs->data[2]),
      shape_{{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, 0, 0, 1, activation == kTfLiteActRelu} {}

int DenseStep::ResolveWeights(const TfLiteContext& context, int rank) {
  RequireType(Input(context), {kTfLiteFloat32}, "input");
  RequireType(Output(context), {kTfLiteFloat32}, "output");
  const TfLiteTensor& filter = TensorAt(context, filter_, "filter");
  RequireConstant(filter, "filter");
  RequireRank(filter, rank, "filter");
  shape_.channels_out = filter.dims->data[0];
  shape_.channels_in = LastDim(filter);
  if (bias_ != kTfLiteOptionalTensor) {
    const TfLiteTensor& tensor = TensorAt(context, bias_, "bias");
    RequireConstant(tensor, "bias");
    RequireRank(tensor, 1, "bias");
    if (tensor.dims->data[0] != shape_.channels_out) {
      Fail("bias: has %d elements, must have one for each of the %d output channels",
           tensor.dims->data[0], shape_.channels_out);
    }
  }
  weights_ = MakeAligned<float>(kernel_.weight_floats(shape_));
  const std::vector<float> zeros(bias_ == kTfLiteOptionalTensor ? shape_.channels_out : 0);
  kernel_.pack(shape_, ConstantFloats(filter).data(),
               zeros.empty() ? ConstantFloats(context.tensors[bias_]).data() : zeros.data(),
               weights_.get());
  blocks_ = kernel_.block_count(shape_);
  return shape_.channels_out;
}

void DenseStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const int chunks = DivideUp(pixels_, kChunkPixels);
  pool.ParallelFor(chunks * blocks_, [&](int index, int) {
    const int begin = index / blocks_ * kChunkPixels;
    const size_t first = begin;
    kernel_.conv_pixels(shape_, weights_.get(), index % blocks_,
                        static_cast<const float*>(inputs[0]) + first * shape_.channels_in,
                        std::min(kChunkPixels, pixels_ - begin),
                        static_cast<float*>(outputs[0]) + first * shape_.channels_out);
  });
}

bool PointwiseConvStep::Claims(const TfLiteContext& context, const Sources& sources,
                               const TfLiteNode& node) {
  if (!HasFloatWeights(context, sources, node, 4, true)) return false;
  const int* filter = sources.FindWeights(context, node.inputs->data[1], 4)->dims->data;
  const TfLiteIntArray* input = context.tensors[node.inputs->data[0]].dims;
  const TfLiteConvParams& params = ConvParams(node);
  Padding::Kind padding;
  // A filter of fewer channels is one for groups of them.
  return input != nullptr && input->size == 4 && input->data[3] == filter[3] && filter[1] == 1 &&
         filter[2] == 1 && params.stride_height == 1 && params.stride_width == 1 &&
         ParsePadding(params.padding, &padding) && IsSupported(params.activation);
}

PointwiseConvStep::PointwiseConvStep(std::string name, const TfLiteContext&, const Sources& sources,
                                     const TfLiteNode& node, const Kernels& kernels)
    : DenseStep(std::move(name), sources, node, kernels, ConvParams(node).activation) {}

void PointwiseConvStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  const int channels_out = ResolveWeights(*context, 4);
  RequireRank(input, 4, "input");
  if (LastDim(input) != channels_in()) {
    Fail("filter: has %d input channels, the input has %d", channels_in(), LastDim(input));
  }
  const int* in = input.dims->data;
  pixels_ = Product(Product(in[0], in[1], "pixels"), in[2], "pixels");
  Resize(context, ShapeWith(input, channels_out));
}

bool FullyConnectedStep::Claims(const TfLiteContext& context, const Sources& sources,
                                const TfLiteNode& node) {
  return HasFloatWeights(context, sources, node, 2, false) &&
         FullyConnectedParams(node).weights_format == 0 &&
         IsSupported(FullyConnectedParams(node).activation);
}

FullyConnectedStep::FullyConnectedStep(std::string name, const TfLiteContext&,
                                       const Sources& sources, const TfLiteNode& node,
                                       const Kernels& kernels)
    : DenseStep(std::move(name), sources, node, kernels, FullyConnectedParams(node).activation),
      keeps_rank_(FullyConnectedParams(node).keep_num_dims) {}

void FullyConnectedStep::Resolve(TfLiteContext* context, const ThreadPool&) {
  const TfLiteTensor& input = Input(*context);
  const int channels_out = ResolveWeights(*context, 2);
  const size_t values = RowCount(input) * LastDim(input);
  const size_t pixels = values / channels_in();
  if (values % channels_in() != 0 || (keeps_rank_ && LastDim(input) != channels_in())) {
    Fail("input: has %zu values, %d along its last axis, must have %d for each output row", values,
         LastDim(input), channels_in());
  }
  if (pixels > INT32_MAX / 2) Fail("input: %zu rows are more than are supported", pixels);
  pixels_ = static_cast<int>(pixels);
  Resize(context,
         keeps_rank_ ? ShapeWith(input, channels_out) : std::vector<int>{pixels_, channels_out});
}

}  // namespace bireal
