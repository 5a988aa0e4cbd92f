#include "delegate/steps/bconv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "delegate/steps/concat.h"

namespace bireal {

BconvStep::BconvStep(std::string name, const TfLiteContext&, const TfLiteNode& node,
                     const Kernels& kernels)
    : Step(std::move(name), node),
      best_(kernels.bconv),
      float_ops_(*kernels.float_ops),
      tail_(kernels),
      filter_(node.inputs->data[1]),
      multiplier_(node.inputs->data[2]),
      bias_(node.inputs->data[3]),
      thresholds_(node.inputs->data[4]) {
  const FlexMap options = ParseOptions(node);
  channels_in_ = Option(options, "channels_in", 1, INT32_MAX);
  Window& window = shape_.window;
  window.stride_h = Option(options, "stride_height", 1, INT32_MAX);
  window.stride_w = Option(options, "stride_width", 1, INT32_MAX);
  window.dilation_h = Option(options, "dilation_height_factor", 1, INT32_MAX);
  window.dilation_w = Option(options, "dilation_width_factor", 1, INT32_MAX);
  padding_ = static_cast<Padding::Kind>(Option(options, "padding", 0, 1));
  shape_.pad_with_ones = Option(options, "pad_values", 0, 1) == 1;
  // LCE takes an activation that it does not know for none.
  activation_ = Option(options, "fused_activation_function", INT32_MIN, INT32_MAX);
}

bool BconvStep::TakeOver(std::unique_ptr<Step>& next) {
  if (packs()) return false;  // The signs are those of the value before `next`.
  switch (next->epilogue()->kind) {
    case Epilogue::kAdd:
    case Epilogue::kConcat:
    case Epilogue::kAddToLast: {
      if (join_ != nullptr || inputs().size() == kMaxPorts) return false;
      const bool adds_to_last = next->epilogue()->kind == Epilogue::kAddToLast;
      if (adds_to_last && next->inputs()[1].tensor != outputs()[0].tensor) return false;
      convolution_tensor_ = outputs()[0].tensor;
      const int a = next->inputs()[0].tensor;
      other_port_ = static_cast<int>(inputs().size());
      AddInput(convolution_tensor_ == a ? next->inputs()[1].tensor : a);
      ReplaceOutput(next->outputs()[0].tensor);
      AddName(*next);
      join_ = std::move(next);
      return true;
    }
    case Epilogue::kMaxPool:
      return false;
    case Epilogue::kChannelOps:
    case Epilogue::kPackSigns: {
      if (next->inputs()[0].tensor != outputs()[0].tensor) return false;
      // An operand that is computed may come before the join. The signs cannot wait for it.
      const bool may_wait = next->epilogue()->kind == Epilogue::kChannelOps &&
                            inputs().size() + next->inputs().size() <= kMaxPorts;
      const int port = may_wait ? static_cast<int>(inputs().size()) : 0;
      if (join_ != nullptr ? !join_->TakeOver(next) : !tail_.TakeOver(*next->epilogue(), port)) {
        return false;
      }
      for (size_t i = 1; i < next->inputs().size(); ++i) AddInput(next->inputs()[i].tensor);
      if (next->epilogue()->kind == Epilogue::kPackSigns) {
        AddOutput(next->outputs().back().tensor);
      } else {
        ReplaceOutput(next->outputs()[0].tensor);
      }
      AddName(*next);
      return true;
    }
  }
  return false;
}

void BconvStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& input = Input(*context);
  const TfLiteTensor& output = Output(*context);
  RequireType(input, {kTfLiteInt32}, "input");
  RequireType(output, {kTfLiteFloat32, kTfLiteInt8, kTfLiteInt32}, "output");
  RequireRank(input, 4, "input");
  const TfLiteTensor& filter = TensorAt(*context, filter_, "filter");
  RequireType(filter, {kTfLiteInt32}, "filter");
  RequireRank(filter, 4, "filter");
  RequireConstant(filter, "filter");

  const int* in = input.dims->data;
  shape_.channels_out = filter.dims->data[0];
  shape_.words_per_group = filter.dims->data[3];
  Window& window = shape_.window;
  window.in_h = in[1];
  window.in_w = in[2];
  window.filter_h = filter.dims->data[1];
  window.filter_w = filter.dims->data[2];
  ResolveWindow(padding_, &window);
  ResolveGroups(in[3]);

  type_ = output.type;
  rows_ = Product(in[0], window.out_h, "output rows");
  const int taps = Product(window.filter_h, window.filter_w, "filter");
  // A count is at most twice the bits of a filter, and thresholds are compared with it.
  constexpr int kMaxBits = 1 << 29;
  const int filter_words = Product(taps, shape_.words_per_group, "filter");
  if (filter_words > kMaxBits / kBitsPerWord) Fail("filter: too large to count its bits");

  // The model's constants need not be aligned.
  std::vector<uint32_t> words(filter.bytes / sizeof(uint32_t));
  std::memcpy(words.data(), filter.data, filter.bytes);
  // The other kernels copy rows with all their padding, of which a model may ask for any amount.
  constexpr int kMaxOverhang = 64;
  constexpr size_t kMaxScratchBytes = size_t{1} << 24;
  const int reach = std::max(window.stride_w, (window.filter_w - 1) * window.dilation_w);
  const bool suits = reach - window.in_w <= kMaxOverhang && best_.handles(shape_) &&
                     best_.scratch_bytes(shape_) <= kMaxScratchBytes;
  kernel_ = suits ? &best_ : &kPortable.bconv;
  weights_ = MakeAligned<uint8_t>(kernel_->weight_bytes(shape_));
  kernel_->pack(shape_, words.data(), weights_.get());

  if (type_ == kTfLiteInt32) {
    ResolveThresholds(*context);
  } else {
    ResolveAffine(*context, taps * shape_.channels_per_group);
  }

  static_assert(sizeof(int32_t) == sizeof(float), "row_size_");
  row_size_ = WholeCacheLines<float>(Product(window.out_w, shape_.channels_out, "output row"));
  counts_ = MakeAligned<int32_t>(row_size_ * pool.num_threads());
  const bool keeps_row = packs() || adds_later() || widens();
  values_ = keeps_row ? MakeAligned<float>(row_size_ * pool.num_threads()) : nullptr;
  scratch_bytes_ = WholeCacheLines<uint8_t>(kernel_->scratch_bytes(shape_));
  scratch_ = MakeAligned<uint8_t>(scratch_bytes_ * pool.num_threads());

  const int channels = shape_.channels_out;
  const int last_dim = type_ == kTfLiteInt32 ? WordsFor(channels) : channels;
  const std::vector<int> dims = {in[0], window.out_h, window.out_w, last_dim};
  tail_.Resolve(*context, pool, in[0], channels);
  pixel_stride_ = channels;
  is_in_place_ = false;
  if (join_ != nullptr) {
    ResizeTensor(context, convolution_tensor_, dims, "convolution");
    const size_t bytes = BytesOf(context->tensors[convolution_tensor_], "convolution");
    join_->Prepare(context, pool);
    const Epilogue& join = *join_->epilogue();
    const TfLiteTensor& other = Input(*context, other_port_);
    const TfLiteTensor& addend = join.last >= 0 ? context->tensors[join.last] : other;
    const bool broadcasts = join.kind != Epilogue::kConcat && !HasShape(addend, dims);
    convolution_ = broadcasts ? MakeAligned<float>(bytes / sizeof(float)) : nullptr;
    other_channels_ = join.kind == Epilogue::kConcat ? LastDim(other)
                      : broadcasts                   ? 0
                                                     : LastDim(other) - LastDim(addend);
    pixel_stride_ = channels + static_cast<size_t>(other_channels_);
    return;
  }
  Resize(context, dims);
  if (packs()) {
    RequireType(Output(*context, 1), {kTfLiteInt32}, "packed output");
    Resize(context, {in[0], window.out_h, window.out_w, WordsFor(channels)}, 1);
  }
}

void BconvStep::Place(size_t pixel_stride, bool is_in_place) {
  pixel_stride_ = pixel_stride;
  is_in_place_ = is_in_place;
}

void BconvStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  void* signs = packs() ? outputs[1] : nullptr;
  if (convolution_ == nullptr) {
    return Convolve(inputs, join_ != nullptr ? inputs[other_port_] : nullptr, outputs[0], signs,
                    pool);
  }
  Convolve(inputs, nullptr, convolution_.get(), nullptr, pool);
  const void* const shortcut = inputs[other_port_];
  const void* const addends[] = {is_first() ? convolution_.get() : shortcut,
                                 is_first() ? shortcut : convolution_.get()};
  join_->Run(addends, outputs, pool);
}

void BconvStep::Convolve(const void* const* inputs, const void* other, void* values, void* signs,
                         ThreadPool& pool) const {
  const Window& window = shape_.window;
  const int channels = shape_.channels_out + other_channels_;
  const size_t in_image =
      static_cast<size_t>(window.in_h) * window.in_w * shape_.groups * shape_.words_per_group;
  const size_t out_row = static_cast<size_t>(window.out_w) * channels;
  const size_t out_row_packed = static_cast<size_t>(window.out_w) * WordsFor(channels);
  const size_t values_row = static_cast<size_t>(window.out_w) * pixel_stride_;
  const Affine affine = {scale_.data(), offset_.data(), clamp_min_, clamp_max_};
  const auto* in = static_cast<const uint32_t*>(inputs[0]);

  pool.ParallelFor(rows_, [&](int row, int thread) {
    const BconvRow counted = {weights_.get(), in + row / window.out_h * in_image,
                              row % window.out_h, scratch_.get() + thread * scratch_bytes_,
                              counts_.get() + thread * row_size_};
    switch (type_) {
      case kTfLiteFloat32: {
        const int other_channels = joins(Epilogue::kConcat) ? other_channels_ : channels;
        const size_t other_row = static_cast<size_t>(window.out_w) * other_channels;
        const float* row_other =
            other != nullptr ? static_cast<const float*>(other) + row * other_row : nullptr;
        float* row_values = values != nullptr ? static_cast<float*>(values) + row * values_row
                                              : values_.get() + thread * row_size_;
        uint32_t* row_signs =
            signs != nullptr ? static_cast<uint32_t*>(signs) + row * out_row_packed : nullptr;
        return ConvolveRow(counted, affine, inputs, row, thread, row_other, row_values, row_signs);
      }
      case kTfLiteInt8:
        kernel_->accumulate(shape_, counted);
        return StoreInt8(counted.t, window.out_w, channels, affine,
                         static_cast<int8_t*>(values) + row * out_row);
      default:
        kernel_->accumulate(shape_, counted);
        return StorePacked(counted.t, window.out_w, channels, count_thresholds_.data(),
                           static_cast<uint32_t*>(values) + row * out_row_packed);
    }
  });
}

void BconvStep::ConvolveRow(const BconvRow& counted, const Affine& affine,
                            const void* const* inputs, int row, int thread, const float* other,
                            float* values, uint32_t* signs) const {
  const bool joins_later = other != nullptr && (adds_later() || widens());
  Residual residual = {};
  if (other != nullptr && !joins_later) residual = {other, join_->epilogue()->relu};
  const RowTail& last = other != nullptr ? *join_->epilogue()->tail : tail_;
  if (!joins_later && !last.has_ops()) {
    return kernel_->float_row(shape_, counted, affine, residual, values, signs);
  }
  // What the kernel cannot do follows while the row is in the first-level cache.
  const int pixels = shape_.window.out_w;
  const int channels = shape_.channels_out;
  const int image = row / shape_.window.out_h;
  float* const computed = joins_later ? values_.get() + thread * row_size_ : values;
  kernel_->float_row(shape_, counted, affine, residual, computed, nullptr);
  if (joins_later) {
    tail_.Run(inputs, image, thread, computed, channels, pixels, computed, nullptr);
    if (!widens()) {
      float_ops_.channel_op(ChannelOp::kAdd, computed, channels, pixels, channels, other, channels,
                            values);
      if (join_->epilogue()->relu) {
        float_ops_.channel_op(ChannelOp::kRelu, values, channels, pixels, channels, nullptr, 0,
                              values);
      }
    } else if (is_first()) {
      ConcatStep::Concatenate(computed, channels, channels, other, other_channels_, pixels, values,
                              pixel_stride_);
    } else {
      size_t other_stride = other_channels_;
      if (joins(Epilogue::kAddToLast)) {
        if (is_in_place_) other = values;
        other_stride = is_in_place_ ? pixel_stride_ : channels + other_stride;
        float_ops_.channel_op(ChannelOp::kAdd, other + other_channels_, other_stride, pixels,
                              channels, computed, channels, computed);
      }
      ConcatStep::Concatenate(is_in_place_ ? nullptr : other, other_channels_, other_stride,
                              computed, channels, pixels, values, pixel_stride_);
    }
  }
  last.Run(inputs, image, thread, values, pixel_stride_, pixels, values, signs);
}

void BconvStep::ResolveGroups(int words_in) {
  if (words_in != WordsFor(channels_in_)) {
    Fail("input: its last dimension is %d words, %d channels need %d", words_in, channels_in_,
         WordsFor(channels_in_));
  }
  const int words = shape_.words_per_group;
  const int groups = words_in / words;
  if (words_in % words != 0) {
    Fail("filter: its last dimension, %d words, does not divide the input's %d", words, words_in);
  }
  if (groups > 1 && (channels_in_ % groups != 0 || channels_in_ / groups % kBitsPerWord != 0 ||
                     shape_.channels_out % groups != 0)) {
    Fail(
        "filter: %d groups need a multiple of 32 input channels each and divide the output "
        "channels. Received: %d input channels, %d output channels",
        groups, channels_in_, shape_.channels_out);
  }
  shape_.groups = groups;
  shape_.channels_per_group = channels_in_ / groups;
}

// A constant with one 4-byte element for each output channel, copied out of the model, where
// it need not be aligned.
template <typename T>
std::vector<T> BconvStep::PerChannel(const TfLiteContext& context, int index, TfLiteType type,
                                     const char* what) const {
  static_assert(sizeof(T) == 4, "PerChannel");
  if (index == kTfLiteOptionalTensor) {
    Fail("%s: an output of type %s needs it", what, TypeName(type_));
  }
  const TfLiteTensor& tensor = TensorAt(context, index, what);
  RequireType(tensor, {type}, what);
  RequireRank(tensor, 1, what);
  RequireConstant(tensor, what);
  if (tensor.dims->data[0] != shape_.channels_out) {
    Fail("%s: has %d elements, must have one for each of the %d output channels", what,
         tensor.dims->data[0], shape_.channels_out);
  }
  std::vector<T> values(shape_.channels_out);
  std::memcpy(values.data(), tensor.data, tensor.bytes);
  return values;
}

// A packed bit is 1 where the number of different signs, t / 2, exceeds the threshold.
void BconvStep::ResolveThresholds(const TfLiteContext& context) {
  count_thresholds_ = PerChannel<int32_t>(context, thresholds_, kTfLiteInt32, "thresholds");
  // Beyond what t / 2 can reach, a threshold decides alone: INT_MIN and INT_MAX do.
  constexpr int32_t kUnreachable = (1 << 30) - 1;
  for (int32_t& threshold : count_thresholds_) {
    threshold = 2 * std::max(-1, std::min(threshold, kUnreachable));
  }
}

// With the convolution value v = depth - t:
//   (v * multiplier + bias) / scale + zero_point
//     = t * (-multiplier / scale) + ((bias + depth * multiplier) / scale + zero_point)
void BconvStep::ResolveAffine(const TfLiteContext& context, int depth) {
  const auto multiplier =
      PerChannel<float>(context, multiplier_, kTfLiteFloat32, "post_activation_multiplier");
  const auto bias = PerChannel<float>(context, bias_, kTfLiteFloat32, "post_activation_bias");
  double scale = 1;
  double zero_point = 0;
  if (type_ == kTfLiteInt8) {
    const TfLiteTensor& output = Output(context);
    scale = output.params.scale;
    zero_point = output.params.zero_point;
    if (!(scale > 0) || !std::isfinite(scale)) {
      Fail("output: scale %g must be positive and finite", scale);
    }
  }
  scale_.resize(shape_.channels_out);
  offset_.resize(shape_.channels_out);
  for (int c = 0; c < shape_.channels_out; ++c) {
    const double m = multiplier[c];
    scale_[c] = static_cast<float>(-m / scale);
    offset_[c] = static_cast<float>((bias[c] + depth * m) / scale + zero_point);
  }

  // The activation acts on v, before the multiplier.
  int min = -depth;
  int max = depth;
  switch (activation_) {
    case 1:  // RELU
      min = 0;
      break;
    case 2:  // RELU_N1_TO_1
      min = std::max(min, -1);
      max = std::min(max, 1);
      break;
    case 3:  // RELU6
      min = 0;
      max = std::min(max, 6);
      break;
  }
  clamp_min_ = depth - max;
  clamp_max_ = depth - min;
}

}  // namespace bireal
