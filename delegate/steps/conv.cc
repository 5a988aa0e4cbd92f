#include "delegate/steps/conv.h"

#include <algorithm>
#include <vector>

#include "delegate/kernels/taps.h"
#include "delegate/model.h"
#include "delegate/steps/float_max_pool.h"

namespace bireal {
namespace {

constexpr int kMaxChannelsIn = 4;
constexpr int kMaxGroupChannelsIn = 16;
constexpr int kMaxFilter = 7;
constexpr int kMaxPoolFilter = 3;

const TfLiteConvParams& Params(const TfLiteNode& node) {
  return *static_cast<const TfLiteConvParams*>(node.builtin_data);
}

}  // namespace

bool ConvStep::Claims(const TfLiteContext& context, const Sources& sources,
                      const TfLiteNode& node) {
  if (node.builtin_data == nullptr || node.inputs == nullptr || node.inputs->size != 3 ||
      node.outputs == nullptr || node.outputs->size != 1) {
    return false;
  }
  const Pixels* pixels = sources.FindPixels(node.inputs->data[0]);
  const TfLiteTensor* input = pixels != nullptr ? &context.tensors[pixels->tensor]
                                                : FindFloat(context, node.inputs->data[0]);
  const TfLiteTensor* filter = sources.FindWeights(context, node.inputs->data[1], 4);
  if (input == nullptr || input->dims == nullptr || input->dims->size != 4 || filter == nullptr ||
      !IsConstant(FindFloat(context, node.inputs->data[2]), 1) ||
      FindFloat(context, node.outputs->data[0]) == nullptr) {
    return false;
  }
  const int* dims = filter->dims->data;
  const TfLiteConvParams& params = Params(node);
  Padding::Kind padding;
  const int stride = params.stride_height;
  const bool is_stem =
      dims[1] == dims[2] && stride == params.stride_width &&
      ((dims[1] == 7 && stride == 2) || (dims[1] == 3 && (stride == 1 || stride == 2)));
  // A filter of fewer channels is one for groups of them.
  const int channels_in = input->dims->data[3];
  if (dims[3] < 1 || channels_in < 1 || channels_in % dims[3] != 0) return false;
  const int groups = channels_in / dims[3];
  const bool is_small =
      groups == 1 ? dims[3] <= kMaxChannelsIn
                  : dims[1] == 3 && dims[3] <= kMaxGroupChannelsIn && dims[0] % groups == 0;
  return is_stem && is_small && params.dilation_height_factor == 1 &&
         params.dilation_width_factor == 1 && ParsePadding(params.padding, &padding) &&
         (params.activation == kTfLiteActNone || params.activation == kTfLiteActRelu);
}

ConvStep::ConvStep(std::string name, const TfLiteContext&, const Sources& sources,
                   const TfLiteNode& node, const Kernels& kernels)
    : Step(std::move(name), node),
      kernels_(kernels),
      tail_(kernels),
      filter_(sources.Stored(node.inputs->data[1])),
      bias_(node.inputs->data[2]) {
  if (const Pixels* pixels = sources.FindPixels(node.inputs->data[0])) {
    pixels_ = *pixels;
    ReplaceInput(pixels->tensor);
  }
  const TfLiteConvParams& params = Params(node);
  ParsePadding(params.padding, &padding_);
  shape_.window.stride_h = params.stride_height;
  shape_.window.stride_w = params.stride_width;
  shape_.window.dilation_h = shape_.window.dilation_w = 1;
  shape_.relu = params.activation == kTfLiteActRelu;
}

bool ConvStep::TakeOver(std::unique_ptr<Step>& next) {
  const Epilogue& epilogue = *next->epilogue();
  if (packs()) return false;  // The signs are those of the value before `next`.
  switch (epilogue.kind) {
    case Epilogue::kAdd:
    case Epilogue::kConcat:
    case Epilogue::kAddToLast:
      return false;
    case Epilogue::kMaxPool:
      if (pools_) return false;
      pools_ = true;
      pool_filter_ = epilogue.pool;
      ReplaceOutput(next->outputs()[0].tensor);
      break;
    case Epilogue::kChannelOps:
      if (!epilogue.ops->is_constant()) return false;
      if (pools_) {
        tail_.TakeOver(epilogue);
      } else {
        conv_ops_.Append(*epilogue.ops, 0);
      }
      ReplaceOutput(next->outputs()[0].tensor);
      break;
    case Epilogue::kPackSigns:
      if (!tail_.TakeOver(epilogue)) return false;
      AddOutput(next->outputs().back().tensor);
      break;
  }
  AddName(*next);
  return true;
}

void ConvStep::Resolve(TfLiteContext* context, const ThreadPool& pool) {
  const TfLiteTensor& input = Input(*context);
  RequireType(input, {pixels_ ? kTfLiteUInt8 : kTfLiteFloat32}, "input");
  RequireType(Output(*context), {kTfLiteFloat32}, "output");
  RequireRank(input, 4, "input");
  const TfLiteTensor& filter = TensorAt(*context, filter_, "filter");
  RequireConstant(filter, "filter");
  RequireRank(filter, 4, "filter");
  const TfLiteTensor& bias = TensorAt(*context, bias_, "bias");
  RequireConstant(bias, "bias");
  RequireRank(bias, 1, "bias");

  const int* in = input.dims->data;
  const int* of_filter = filter.dims->data;
  shape_.channels_in = in[3];
  shape_.channels_out = of_filter[0];
  shape_.groups = std::max(1, shape_.channels_in / of_filter[3]);
  if (shape_.channels_in % of_filter[3] != 0 || shape_.channels_out % shape_.groups != 0) {
    Fail("filter: has %d input channels for %d outputs, the input has %d", of_filter[3],
         shape_.channels_out, shape_.channels_in);
  }
  if (pixels_ && pixels_->channels != shape_.channels_in) {
    Fail("input: has %d channels, its pixels are normalized for %d", shape_.channels_in,
         pixels_->channels);
  }
  if (bias.dims->data[0] != shape_.channels_out) {
    Fail("bias: has %d elements, must have one for each of the %d output channels",
         bias.dims->data[0], shape_.channels_out);
  }
  Window& window = shape_.window;
  window.in_h = in[1];
  window.in_w = in[2];
  window.filter_h = of_filter[1];
  window.filter_w = of_filter[2];
  ResolveWindow(padding_, &window);
  // The kernels compute a few pixels more than there are.
  constexpr int kMaxWidth = 1 << 28;
  if (window.out_w > kMaxWidth) {
    Fail("output: a width of %d is not supported; accepted: up to %d", window.out_w, kMaxWidth);
  }
  if (pools_) pool_window_ = ResolvePool(pool_filter_, window.out_h, window.out_w);

  const int channels = shape_.channels_out;
  const Window& output = output_window();
  images_ = in[0];
  Product(images_, output.out_h, "output rows");
  // A chunk begins with rows of the convolution, and of the input, that the one before it has
  // computed as well. So one thread does an image as one.
  constexpr int kChunkRows = 7;
  chunk_rows_ = pool.num_threads() == 1 ? output.out_h : std::min(kChunkRows, output.out_h);

  if (pixels_ && shape_.groups == 1 && MultipliesPixels(*pixels_, filter)) {
    rows_ = MakePixelRows(*kernels_.bytes, shape_, filter, bias, *pixels_);
  } else {
    rows_ = MakeFloatRows(*kernels_.float_ops, shape_, filter, bias, pixels_ ? &*pixels_ : nullptr);
  }
  zeros_ = MakeZeros<char>(rows_->row_bytes());

  const size_t in_values = static_cast<size_t>(window.in_w) * shape_.channels_in;
  in_row_bytes_ = in_values * (pixels_ ? sizeof(uint8_t) : sizeof(float));
  const size_t pixel_bytes = channels * sizeof(float);
  prepared_bytes_ = WholeCacheLines<char>(rows_->row_bytes());
  conv_bytes_ = WholeCacheLines<char>(window.out_w * pixel_bytes);
  output_bytes_ = WholeCacheLines<char>(output.out_w * pixel_bytes);
  thread_bytes_ = window.filter_h * prepared_bytes_ +
                  (pools_ ? pool_window_.filter_h * conv_bytes_ : 0) +
                  (packs() ? output_bytes_ : 0) + WholeCacheLines<char>(rows_->scratch_bytes());
  memory_ = MakeAligned<char>(thread_bytes_ * pool.num_threads());
  conv_ops_.Resolve(*context, images_, channels);
  tail_.Resolve(*context, pool, images_, channels);

  Resize(context, {images_, output.out_h, output.out_w, channels});
  if (packs()) {
    RequireType(Output(*context, 1), {kTfLiteInt32}, "packed output");
    Resize(context, {images_, output.out_h, output.out_w, WordsFor(channels)}, 1);
  }
}

// Each input row is prepared once for all rows of the convolution that read it, which come one
// after the other.
class ConvStep::Rows {
 public:
  // `prepared`: as many rows as the filter has; `first` is the first row that is asked for.
  Rows(const ConvStep& step, const char* image, int first, char* prepared, char* scratch)
      : step_(step), image_(image), prepared_(prepared), scratch_(scratch), next_(Top(first)) {}

  void Compute(int y, float* out) {
    const Window& window = step_.shape_.window;
    const Taps inside = RowsInside(window, y);
    next_ = std::max(next_, Top(y));
    const void* rows[kMaxFilter];
    for (int fy = 0; fy < window.filter_h; ++fy) {
      if (fy < inside.begin || fy >= inside.end) {
        rows[fy] = step_.zeros_.get();
        continue;
      }
      const int in_y = y * window.stride_h - window.pad_top + fy;
      rows[fy] = Place(in_y);
      if (in_y < next_) continue;
      next_ = in_y + 1;
      step_.rows_->Prepare(image_ + in_y * step_.in_row_bytes_, scratch_, Place(in_y));
    }
    step_.rows_->Compute(y, rows, scratch_, out);
    step_.conv_ops_.Run(*step_.kernels_.float_ops, nullptr, 0, out, step_.shape_.channels_out,
                        window.out_w, out);
  }

 private:
  // The first input row in the image that row y looks at.
  int Top(int y) const {
    return std::max(0, y * step_.shape_.window.stride_h - step_.shape_.window.pad_top);
  }
  char* Place(int in_y) const {
    return prepared_ + in_y % step_.shape_.window.filter_h * step_.prepared_bytes_;
  }

  const ConvStep& step_;
  const char* const image_;
  char* const prepared_;
  char* const scratch_;
  int next_;  // The input row that is to be prepared next.
};

void ConvStep::RunRows(const char* image, int begin, int end, int thread, float* out,
                       uint32_t* signs) const {
  char* const prepared = memory_.get() + thread * thread_bytes_;
  char* const conv = prepared + shape_.window.filter_h * prepared_bytes_;
  char* const row = conv + (pools_ ? pool_window_.filter_h * conv_bytes_ : 0);
  char* const scratch = row + (packs() ? output_bytes_ : 0);

  const Window& output = output_window();
  const size_t row_floats = static_cast<size_t>(output.out_w) * shape_.channels_out;
  const size_t packed_row = static_cast<size_t>(output.out_w) * WordsFor(shape_.channels_out);
  const auto top = [&](int y) { return std::max(0, y * output.stride_h - output.pad_top); };
  int next = pools_ ? top(begin) : begin;  // The row of the convolution that is to be next.
  Rows rows(*this, image, next, prepared, scratch);
  for (int y = begin; y < end; ++y) {
    float* const values =
        out != nullptr ? out + (y - begin) * row_floats : reinterpret_cast<float*>(row);
    if (pools_) {
      const Taps inside = RowsInside(pool_window_, y);
      const float* pooled[kMaxPoolFilter];
      next = std::max(next, top(y));
      for (int i = 0; i < inside.count(); ++i) {
        const int conv_y = top(y) + i;
        auto* const place =
            reinterpret_cast<float*>(conv + conv_y % pool_window_.filter_h * conv_bytes_);
        pooled[i] = place;
        if (conv_y < next) continue;
        next = conv_y + 1;
        rows.Compute(conv_y, place);
      }
      kernels_.float_ops->max_row(pool_window_, shape_.channels_out, pooled, inside.count(),
                                  values);
    } else {
      rows.Compute(y, values);
    }
    tail_.Run(nullptr, 0, thread, values, shape_.channels_out, output.out_w, values,
              signs != nullptr ? signs + (y - begin) * packed_row : nullptr);
  }
}

void ConvStep::Run(const void* const* inputs, void* const* outputs, ThreadPool& pool) const {
  const Window& output = output_window();
  const size_t in_image = shape_.window.in_h * in_row_bytes_;
  const size_t out_row = static_cast<size_t>(output.out_w) * shape_.channels_out;
  const size_t packed_row = static_cast<size_t>(output.out_w) * WordsFor(shape_.channels_out);
  const int chunks = DivideUp(output.out_h, chunk_rows_);
  pool.ParallelFor(images_ * chunks, [&](int index, int thread) {
    const int image = index / chunks;
    const int begin = index % chunks * chunk_rows_;
    const int end = std::min(begin + chunk_rows_, output.out_h);
    const size_t first_row = static_cast<size_t>(image) * output.out_h + begin;
    // An output that nobody reads is null.
    auto* out = static_cast<float*>(outputs[0]);
    auto* signs = packs() ? static_cast<uint32_t*>(outputs[1]) : nullptr;
    RunRows(static_cast<const char*>(inputs[0]) + image * in_image, begin, end, thread,
            out != nullptr ? out + first_row * out_row : nullptr,
            signs != nullptr ? signs + first_row * packed_row : nullptr);
  });
}

}  // namespace bireal
