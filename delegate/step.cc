#include "delegate/step.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "delegate/model.h"

namespace bireal {
namespace {

constexpr int kMaxInt = std::numeric_limits<int>::max();
// Tensors whose rows are cheap are cut into pieces of about this many rows.
constexpr size_t kRowsPerTask = 64;

const TfLiteIntArray& Dims(const TfLiteTensor& tensor) { return *tensor.dims; }

int LastDim(const TfLiteTensor& tensor) { return Dims(tensor).data[Dims(tensor).size - 1]; }

// Product of all dimensions but the last. RequireShape has seen that it fits.
size_t RowCount(const TfLiteTensor& tensor) {
  size_t rows = 1;
  for (int i = 0; i + 1 < Dims(tensor).size; ++i) rows *= Dims(tensor).data[i];
  return rows;
}

size_t ElementSize(TfLiteType type) {
  return type == kTfLiteFloat32 || type == kTfLiteInt32 ? 4 : 1;
}

// Calls body(first row, number of rows) for pieces that together are all rows.
template <typename Body>
void ForRows(ThreadPool& pool, size_t rows, const Body& body) {
  const int tasks = static_cast<int>((rows - 1) / kRowsPerTask + 1);
  pool.ParallelFor(tasks, [&](int task, int) {
    const size_t begin = task * kRowsPerTask;
    body(begin, std::min(kRowsPerTask, rows - begin));
  });
}

class QuantizeStep : public Step {
 public:
  QuantizeStep(int input, int output, const Kernels& kernels)
      : Step(input, output), kernels_(kernels) {}

  void Run(const void* input, void* output, ThreadPool& pool) const override {
    const size_t words = WordsFor(channels_);
    ForRows(pool, rows_, [&](size_t begin, size_t rows) {
      uint32_t* out = static_cast<uint32_t*>(output) + begin * words;
      const size_t offset = begin * channels_;
      switch (type_) {
        case kTfLiteFloat32:
          return kernels_.pack_float(static_cast<const float*>(input) + offset, rows, channels_,
                                     out);
        case kTfLiteInt8:
          return PackInt8(static_cast<const int8_t*>(input) + offset, rows, channels_, zero_point_,
                          out);
        default:
          return PackBool(static_cast<const uint8_t*>(input) + offset, rows, channels_, out);
      }
    });
  }

 protected:
  TfLiteIntArray* Resolve(const TfLiteContext&, const TfLiteTensor& input,
                          const TfLiteTensor& output, const ThreadPool&) override {
    RequireType(input, {kTfLiteFloat32, kTfLiteInt8, kTfLiteBool}, "input");
    RequireType(output, {kTfLiteInt32}, "output");
    RequireShape(input, ElementSize(input.type), "input");
    type_ = input.type;
    rows_ = RowCount(input);
    channels_ = LastDim(input);
    zero_point_ = input.params.zero_point;
    return MakeShapeLike(input, WordsFor(channels_));
  }

 private:
  const Kernels& kernels_;
  TfLiteType type_ = kTfLiteNoType;
  size_t rows_ = 0;
  int channels_ = 0;
  int32_t zero_point_ = 0;
};

class DequantizeStep : public Step {
 public:
  using Step::Step;

  void Run(const void* input, void* output, ThreadPool& pool) const override {
    const size_t words = WordsFor(channels_);
    ForRows(pool, rows_, [&](size_t begin, size_t rows) {
      const uint32_t* in = static_cast<const uint32_t*>(input) + begin * words;
      const size_t offset = begin * channels_;
      if (type_ == kTfLiteFloat32) {
        UnpackFloat(in, rows, channels_, 1.0f, -1.0f, static_cast<float*>(output) + offset);
      } else {
        UnpackBytes(in, rows, channels_, plus_, minus_, static_cast<uint8_t*>(output) + offset);
      }
    });
  }

 protected:
  TfLiteIntArray* Resolve(const TfLiteContext&, const TfLiteTensor& input,
                          const TfLiteTensor& output, const ThreadPool&) override {
    RequireType(input, {kTfLiteInt32}, "input");
    RequireType(output, {kTfLiteFloat32, kTfLiteInt8, kTfLiteBool}, "output");
    RequireShape(input, sizeof(uint32_t), "input");
    // Only the output's declared shape knows the number of channels.
    if (output.dims == nullptr || Dims(output).size != Dims(input).size || LastDim(output) < 1 ||
        WordsFor(LastDim(output)) != LastDim(input)) {
      Fail(
          "output: must have the input's rank and 32 channels, or up to 31 less, for each of its "
          "%d words",
          LastDim(input));
    }
    type_ = output.type;
    rows_ = RowCount(input);
    channels_ = LastDim(output);
    plus_ = 1;   // true
    minus_ = 0;  // false
    if (type_ == kTfLiteInt8) {
      const float scale = output.params.scale;
      const float steps = std::round(1.0f / scale);  // The quantized distance from 0 to 1.
      if (!(scale > 0) || !(steps < 1e6f)) {
        Fail("output: scale %g is not supported; accepted: above 1e-6", scale);
      }
      const int zero_point = output.params.zero_point;
      if (zero_point < -128 || zero_point > 127) {
        Fail("output: zero point %d must be in [-128, 127]", zero_point);
      }
      const int offset = static_cast<int>(steps);
      plus_ = static_cast<uint8_t>(std::min(127, zero_point + offset));
      minus_ = static_cast<uint8_t>(std::max(-128, zero_point - offset));
    }
    return MakeShapeLike(input, channels_);
  }

 private:
  TfLiteType type_ = kTfLiteNoType;
  size_t rows_ = 0;
  int channels_ = 0;
  uint8_t plus_ = 0;
  uint8_t minus_ = 0;
};

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(int input, int output, const FlexMap& options) : Step(input, output) {
    window_.filter_h = Option(options, "filter_height", 1, kMaxInt);
    window_.filter_w = Option(options, "filter_width", 1, kMaxInt);
    window_.stride_h = Option(options, "stride_height", 1, kMaxInt);
    window_.stride_w = Option(options, "stride_width", 1, kMaxInt);
    window_.dilation_h = window_.dilation_w = 1;
    padding_ = static_cast<Padding::Kind>(Option(options, "padding", 0, 1));
  }

  void Run(const void* input, void* output, ThreadPool& pool) const override {
    const size_t in_image = static_cast<size_t>(window_.in_h) * window_.in_w * words_;
    const size_t out_row = static_cast<size_t>(window_.out_w) * words_;
    pool.ParallelFor(rows_, [&](int row, int) {
      MaxPoolPacked(window_, words_,
                    static_cast<const uint32_t*>(input) + row / window_.out_h * in_image,
                    row % window_.out_h, static_cast<uint32_t*>(output) + row * out_row);
    });
  }

 protected:
  TfLiteIntArray* Resolve(const TfLiteContext&, const TfLiteTensor& input,
                          const TfLiteTensor& output, const ThreadPool&) override {
    RequireType(input, {kTfLiteInt32}, "input");
    RequireType(output, {kTfLiteInt32}, "output");
    RequireRank(input, 4, sizeof(uint32_t), "input");
    const int* dims = Dims(input).data;
    window_.in_h = dims[1];
    window_.in_w = dims[2];
    words_ = dims[3];
    ResolveWindow(padding_, &window_);
    rows_ = Product(dims[0], window_.out_h, "output rows");
    return MakeShape({dims[0], window_.out_h, window_.out_w, words_});
  }

 private:
  Padding::Kind padding_;
  Window window_ = {};
  int words_ = 0;
  int rows_ = 0;  // Of the whole batch.
};

class BconvStep : public Step {
 public:
  BconvStep(const TfLiteNode& node, const FlexMap& options, const Kernels& kernels)
      : Step(node.inputs->data[0], node.outputs->data[0]),
        kernels_(kernels),
        filter_(node.inputs->data[1]),
        multiplier_(node.inputs->data[2]),
        bias_(node.inputs->data[3]),
        thresholds_(node.inputs->data[4]) {
    channels_in_ = Option(options, "channels_in", 1, kMaxInt);
    Window& window = shape_.window;
    window.stride_h = Option(options, "stride_height", 1, kMaxInt);
    window.stride_w = Option(options, "stride_width", 1, kMaxInt);
    window.dilation_h = Option(options, "dilation_height_factor", 1, kMaxInt);
    window.dilation_w = Option(options, "dilation_width_factor", 1, kMaxInt);
    padding_ = static_cast<Padding::Kind>(Option(options, "padding", 0, 1));
    shape_.pad_with_ones = Option(options, "pad_values", 0, 1) == 1;
    // LCE takes an activation that it does not know for none.
    activation_ =
        Option(options, "fused_activation_function", std::numeric_limits<int>::min(), kMaxInt);
  }

  void Run(const void* input, void* output, ThreadPool& pool) const override {
    const Window& window = shape_.window;
    const int channels = shape_.channels_out;
    const size_t in_image =
        static_cast<size_t>(window.in_h) * window.in_w * shape_.groups * shape_.words_per_group;
    const size_t out_row = static_cast<size_t>(window.out_w) * channels;
    const size_t out_row_packed = static_cast<size_t>(window.out_w) * WordsFor(channels);
    const Affine affine = {scale_.data(), offset_.data(), clamp_min_, clamp_max_};

    pool.ParallelFor(rows_, [&](int row, int thread) {
      int32_t* t = counts_.get() + thread * out_row;
      bconv_->accumulate(shape_, weights_.get(),
                         static_cast<const uint32_t*>(input) + row / window.out_h * in_image,
                         row % window.out_h, scratch_.get() + thread * scratch_bytes_, t);
      switch (type_) {
        case kTfLiteFloat32:
          return kernels_.store_float(t, window.out_w, channels, affine,
                                      static_cast<float*>(output) + row * out_row);
        case kTfLiteInt8:
          return StoreInt8(t, window.out_w, channels, affine,
                           static_cast<int8_t*>(output) + row * out_row);
        default:
          return StorePacked(t, window.out_w, channels, count_thresholds_.data(),
                             static_cast<uint32_t*>(output) + row * out_row_packed);
      }
    });
  }

 protected:
  TfLiteIntArray* Resolve(const TfLiteContext& context, const TfLiteTensor& input,
                          const TfLiteTensor& output, const ThreadPool& pool) override {
    RequireType(input, {kTfLiteInt32}, "input");
    RequireType(output, {kTfLiteFloat32, kTfLiteInt8, kTfLiteInt32}, "output");
    RequireRank(input, 4, sizeof(uint32_t), "input");
    const TfLiteTensor& filter = TensorAt(context, filter_, "filter");
    RequireType(filter, {kTfLiteInt32}, "filter");
    RequireRank(filter, 4, sizeof(uint32_t), "filter");
    RequireConstant(filter, "filter");

    const int* in = Dims(input).data;
    shape_.channels_out = Dims(filter).data[0];
    shape_.words_per_group = Dims(filter).data[3];
    Window& window = shape_.window;
    window.in_h = in[1];
    window.in_w = in[2];
    window.filter_h = Dims(filter).data[1];
    window.filter_w = Dims(filter).data[2];
    ResolveWindow(padding_, &window);
    ResolveGroups(in[3]);

    type_ = output.type;
    rows_ = Product(in[0], window.out_h, "output rows");
    const int taps = Product(window.filter_h, window.filter_w, "filter");
    // A count is at most twice the bits of a filter, and thresholds are compared with it.
    constexpr int kMaxBits = 1 << 29;
    const int filter_words = Product(taps, shape_.words_per_group, "filter");
    if (filter_words > kMaxBits / kBitsPerWord) Fail("filter: too large to count its bits");

    std::vector<uint32_t> words(filter.bytes / sizeof(uint32_t));
    std::memcpy(words.data(), filter.data, filter.bytes);
    bconv_ = kernels_.handles(shape_) ? &kernels_ : &kPortable;
    weights_.reset(new uint8_t[bconv_->weight_bytes(shape_)]);
    bconv_->pack(shape_, words.data(), weights_.get());

    const int depth = taps * shape_.channels_per_group;
    if (type_ == kTfLiteInt32) {
      ResolveThresholds(context);
    } else {
      ResolveAffine(context, output, depth);
    }

    const size_t row = static_cast<size_t>(window.out_w) * shape_.channels_out;
    counts_.reset(new int32_t[row * pool.num_threads()]);
    // Each thread's part stays aligned as new[] aligns the first.
    scratch_bytes_ = (bconv_->scratch_bytes(shape_) + 15) / 16 * 16;
    scratch_.reset(new uint8_t[scratch_bytes_ * pool.num_threads()]);
    const int last_dim =
        type_ == kTfLiteInt32 ? WordsFor(shape_.channels_out) : shape_.channels_out;
    return MakeShape({in[0], window.out_h, window.out_w, last_dim});
  }

 private:
  void ResolveGroups(int words_in) {
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
  std::vector<T> PerChannel(const TfLiteContext& context, int index, TfLiteType type,
                            const char* what) const {
    static_assert(sizeof(T) == 4, "PerChannel");
    if (index == kTfLiteOptionalTensor) {
      Fail("%s: an output of type %s needs it", what, TypeName(type_));
    }
    const TfLiteTensor& tensor = TensorAt(context, index, what);
    RequireType(tensor, {type}, what);
    RequireRank(tensor, 1, sizeof(T), what);
    RequireConstant(tensor, what);
    if (Dims(tensor).data[0] != shape_.channels_out) {
      Fail("%s: has %d elements, must have one for each of the %d output channels", what,
           Dims(tensor).data[0], shape_.channels_out);
    }
    std::vector<T> values(shape_.channels_out);
    std::memcpy(values.data(), tensor.data, tensor.bytes);
    return values;
  }

  // A packed bit is 1 where the number of different signs, t / 2, exceeds the threshold.
  void ResolveThresholds(const TfLiteContext& context) {
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
  void ResolveAffine(const TfLiteContext& context, const TfLiteTensor& output, int depth) {
    const auto multiplier =
        PerChannel<float>(context, multiplier_, kTfLiteFloat32, "post_activation_multiplier");
    const auto bias = PerChannel<float>(context, bias_, kTfLiteFloat32, "post_activation_bias");
    double scale = 1;
    double zero_point = 0;
    if (type_ == kTfLiteInt8) {
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

  const Kernels& kernels_;
  // Tensor indices.
  int filter_;
  int multiplier_;
  int bias_;
  int thresholds_;
  // Options.
  int channels_in_;
  int activation_;
  Padding::Kind padding_;
  // What Resolve made of them.
  BconvShape shape_ = {};
  TfLiteType type_ = kTfLiteNoType;
  int rows_ = 0;                    // Of the whole batch.
  const Kernels* bconv_ = nullptr;  // kernels_, or the portable ones for an odd shape.
  std::unique_ptr<uint8_t[]> weights_;
  std::vector<float> scale_;
  std::vector<float> offset_;
  int32_t clamp_min_ = 0;
  int32_t clamp_max_ = 0;
  std::vector<int32_t> count_thresholds_;
  // For each thread: an output row of counts, and what the kernel asks for.
  std::unique_ptr<int32_t[]> counts_;
  std::unique_ptr<uint8_t[]> scratch_;
  size_t scratch_bytes_ = 0;
};

void RequireCounts(const TfLiteNode& node, int inputs, int outputs) {
  const int received_inputs = node.inputs ? node.inputs->size : 0;
  const int received_outputs = node.outputs ? node.outputs->size : 0;
  if (received_inputs != inputs || received_outputs != outputs) {
    Fail("must have %d inputs and %d output. Received: %d and %d", inputs, outputs, received_inputs,
         received_outputs);
  }
}

FlexMap ParseOptions(const TfLiteNode& node) {
  FlexMap options;
  if (node.custom_initial_data_size <= 0 ||
      !options.Parse(node.custom_initial_data, node.custom_initial_data_size)) {
    Fail("options: %d bytes that are no FlexBuffer map", node.custom_initial_data_size);
  }
  return options;
}

std::unique_ptr<Step> MakeUnnamedStep(const TfLiteContext& context, const TfLiteNode& node,
                                      const char* op, const Kernels& kernels) {
  const bool is_bconv = std::strcmp(op, "LceBconv2d") == 0;
  RequireCounts(node, is_bconv ? 5 : 1, 1);
  const int input = node.inputs->data[0];
  const int output = node.outputs->data[0];
  TensorAt(context, input, "input");
  TensorAt(context, output, "output");
  if (is_bconv) return std::make_unique<BconvStep>(node, ParseOptions(node), kernels);
  if (std::strcmp(op, "LceBMaxPool2d") == 0) {
    return std::make_unique<MaxPoolStep>(input, output, ParseOptions(node));
  }
  if (std::strcmp(op, "LceQuantize") == 0)
    return std::make_unique<QuantizeStep>(input, output, kernels);
  return std::make_unique<DequantizeStep>(input, output);
}

// Runs `body` and puts `name` before the message of a ModelError.
template <typename Body>
void Named(const std::string& name, const Body& body) {
  try {
    body();
  } catch (const ModelError& error) {
    throw ModelError(name + ": " + error.what());
  }
}

}  // namespace

void Step::Prepare(TfLiteContext* context, const ThreadPool& pool) {
  Named(name_, [&] { PrepareUnnamed(context, pool); });
}

void Step::PrepareUnnamed(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& input = TensorAt(*context, input_, "input");
  const TfLiteTensor& output = TensorAt(*context, output_, "output");
  if (input_ == output_) Fail("output: is its own input, tensor %d", input_);
  if (output.allocation_type == kTfLiteMmapRo) Fail("output: is a constant of the model");
  TfLiteIntArray* shape = Resolve(*context, input, output, pool);
  if (context->ResizeTensor(context, &context->tensors[output_], shape) != kTfLiteOk) {
    Fail("output: cannot be resized");
  }
  input_bytes_ = input.bytes;
  output_bytes_ = output.bytes;
}

bool IsLceOp(const TfLiteRegistration& registration) {
  if (registration.builtin_code != kTfLiteBuiltinCustom || registration.custom_name == nullptr) {
    return false;
  }
  for (const char* op : {"LceQuantize", "LceDequantize", "LceBMaxPool2d", "LceBconv2d"}) {
    if (std::strcmp(registration.custom_name, op) == 0) return true;
  }
  return false;
}

std::unique_ptr<Step> MakeStep(const TfLiteContext& context, int index, const TfLiteNode& node,
                               const char* op, const Kernels& kernels) {
  const std::string name = std::string(op) + " (node " + std::to_string(index) + ")";
  std::unique_ptr<Step> step;
  Named(name, [&] { step = MakeUnnamedStep(context, node, op, kernels); });
  step->name_ = name;
  return step;
}

}  // namespace bireal
