#include "delegate/steps/conv_rows.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "delegate/aligned.h"
#include "delegate/kernels/taps.h"
#include "delegate/model.h"

namespace bireal {
namespace {

constexpr int kMaxFilter = 7;

class FloatRows : public ConvRows {
 public:
  FloatRows(const FloatKernel& kernel, const ConvShape& shape, const TfLiteTensor& filter,
            const TfLiteTensor& bias, const Pixels* pixels)
      : kernel_(kernel),
        shape_(shape),
        pixels_(pixels),
        weights_(MakeAligned<float>(kernel.weight_floats(shape))) {
    kernel_.pack(shape_, ConstantFloats(filter).data(), ConstantFloats(bias).data(),
                 weights_.get());
    kernel_scratch_floats_ = WholeCacheLines<float>(kernel_.scratch_floats(shape_));
  }

  size_t row_bytes() const override { return kernel_.row_floats(shape_) * sizeof(float); }

  size_t scratch_bytes() const override {
    return (kernel_scratch_floats_ + (pixels_ != nullptr ? in_floats() : 0)) * sizeof(float);
  }

  void Prepare(const void* input, void* scratch, void* row) const override {
    auto* floats = static_cast<float*>(scratch);
    const float* in = static_cast<const float*>(input);
    if (pixels_ != nullptr) {
      ToFloats(static_cast<const uint8_t*>(input), floats + kernel_scratch_floats_);
      in = floats + kernel_scratch_floats_;
    }
    kernel_.prepare_row(shape_, in, floats, static_cast<float*>(row));
  }

  void Compute(int, const void* const* rows, void* scratch, float* out) const override {
    const float* floats[kMaxFilter];
    for (int i = 0; i < shape_.window.filter_h; ++i) floats[i] = static_cast<const float*>(rows[i]);
    kernel_.conv_row(shape_, weights_.get(), floats, static_cast<float*>(scratch), out);
  }

 private:
  size_t in_floats() const { return static_cast<size_t>(shape_.window.in_w) * shape_.channels_in; }

  void ToFloats(const uint8_t* in, float* out) const {
    const int channels = shape_.channels_in;
    for (size_t i = 0; i < in_floats(); i += channels) {
      for (int c = 0; c < channels; ++c) {
        out[i + c] = static_cast<float>(in[i + c]) * pixels_->multiplier[c] - pixels_->offset[c];
      }
    }
  }

  const FloatKernel& kernel_;
  const ConvShape shape_;
  const Pixels* const pixels_;
  size_t kernel_scratch_floats_ = 0;
  AlignedArray<float> weights_;
};

// A pixel of 0 stands outside of the image, where the float that the network has is 0, too: that is
// another pixel. So what the offsets come to is a part of the bias, and depends on which of the
// filter's taps lie inside.
class PixelRows : public ConvRows {
 public:
  PixelRows(const ByteKernel& kernel, const ConvShape& shape, const TfLiteTensor& filter,
            const TfLiteTensor& bias, const Pixels& pixels)
      : kernel_(kernel),
        shape_(shape),
        bytes_{shape.window.filter_h, shape.window.filter_w * shape.channels_in,
               shape.window.stride_w * shape.channels_in, shape.channels_out},
        input_scale_(pixels.multiplier[0]),
        padded_(kernel.padded_channels(shape.channels_out)),
        weights_(MakeAligned<char>(kernel.weight_bytes(bytes_))),
        starts_(MakeZeros<int32_t>(padded_)),
        scales_(MakeZeros<float>(padded_)) {
    kernel_.pack(bytes_, static_cast<const int8_t*>(filter.data), weights_.get());
    const TfLiteFloatArray& scales = *FindScales(&filter);
    for (int o = 0; o < shape.channels_out; ++o) {
      scales_[o] = scales.data[scales.size == 1 ? 0 : o];
    }
    FindRuns();
    SetBiases(static_cast<const int8_t*>(filter.data), ConstantFloats(bias).data(), pixels);
  }

  size_t row_bytes() const override { return row_values() * kernel_.value_bytes; }

  size_t scratch_bytes() const override { return 0; }

  void Prepare(const void* input, void*, void* row) const override {
    const Window& window = shape_.window;
    const size_t count = row_values();
    const size_t left = std::min(static_cast<size_t>(window.pad_left) * shape_.channels_in, count);
    const size_t inside =
        std::min(static_cast<size_t>(window.in_w) * shape_.channels_in, count - left);
    auto* values = static_cast<char*>(row);
    std::memset(values, 0, left * kernel_.value_bytes);
    kernel_.widen(static_cast<const uint8_t*>(input), inside, values + left * kernel_.value_bytes);
    std::memset(values + (left + inside) * kernel_.value_bytes, 0,
                (count - left - inside) * kernel_.value_bytes);
  }

  void Compute(int y, const void* const* rows, void*, float* out) const override {
    const float* biases = biases_.get() + row_kinds_[y] * column_kinds_ * padded_;
    for (const Run& run : runs_) {
      const size_t first = static_cast<size_t>(run.begin) * bytes_.pixel_stride;
      const void* values[kMaxFilter];
      for (int i = 0; i < bytes_.rows; ++i) {
        values[i] = static_cast<const char*>(rows[i]) + first * kernel_.value_bytes;
      }
      kernel_.multiply(
          bytes_, weights_.get(), values, run.end - run.begin,
          {starts_.get(), scales_.get(), input_scale_, biases + run.kind * padded_, shape_.relu},
          out + static_cast<size_t>(run.begin) * shape_.channels_out);
    }
  }

 private:
  // Neighbours of a row that have the same columns of the filter inside of the image.
  struct Run {
    int begin, end;
    size_t kind;
  };

  size_t row_values() const {
    return static_cast<size_t>(shape_.window.out_w - 1) * bytes_.pixel_stride + bytes_.depth +
           kernel_.group;
  }

  // The number of these taps in the list, to which they may be new.
  static size_t KindOf(const Taps& taps, std::vector<Taps>* kinds) {
    const auto found = std::find(kinds->begin(), kinds->end(), taps);
    const size_t kind = found - kinds->begin();
    if (found == kinds->end()) kinds->push_back(taps);
    return kind;
  }

  void FindRuns() {
    for (int x = 0; x < shape_.window.out_w; ++x) {
      const size_t kind = KindOf(ColumnsInside(shape_.window, x), &columns_);
      if (runs_.empty() || runs_.back().kind != kind) runs_.push_back({x, x, kind});
      ++runs_.back().end;
    }
    row_kinds_.resize(shape_.window.out_h);
    for (int y = 0; y < shape_.window.out_h; ++y) {
      row_kinds_[y] = KindOf(RowsInside(shape_.window, y), &rows_);
    }
    column_kinds_ = columns_.size();
  }

  // bias - scale * sum of weight * offset over the taps inside, rounded once.
  void SetBiases(const int8_t* filter, const float* bias, const Pixels& pixels) {
    biases_ = MakeZeros<float>(rows_.size() * columns_.size() * padded_);
    float* out = biases_.get();
    const size_t tap_stride = shape_.channels_in;
    const size_t row_stride = tap_stride * shape_.window.filter_w;
    for (const Taps& rows : rows_) {
      for (const Taps& columns : columns_) {
        for (int o = 0; o < shape_.channels_out; ++o) {
          const int8_t* weights = filter + o * row_stride * shape_.window.filter_h;
          double sum = 0;
          for (int row = rows.begin; row < rows.end; ++row) {
            for (int column = columns.begin; column < columns.end; ++column) {
              for (int c = 0; c < shape_.channels_in; ++c) {
                sum += static_cast<double>(pixels.offset[c]) *
                       weights[row * row_stride + column * tap_stride + c];
              }
            }
          }
          out[o] = static_cast<float>(bias[o] - scales_[o] * sum);
        }
        out += padded_;
      }
    }
  }

  const ByteKernel& kernel_;
  const ConvShape shape_;
  const ByteShape bytes_;
  const float input_scale_;
  const size_t padded_;  // Output channels.
  AlignedArray<char> weights_;
  AlignedArray<int32_t> starts_;
  AlignedArray<float> scales_;
  // (kinds of rows, kinds of columns, output channels)
  AlignedArray<float> biases_;
  std::vector<Taps> rows_;
  std::vector<Taps> columns_;
  std::vector<size_t> row_kinds_;  // Of each output row.
  size_t column_kinds_ = 0;
  std::vector<Run> runs_;
};

}  // namespace

std::unique_ptr<ConvRows> MakeFloatRows(const FloatKernel& kernel, const ConvShape& shape,
                                        const TfLiteTensor& filter, const TfLiteTensor& bias,
                                        const Pixels* pixels) {
  const bool is_narrow = shape.channels_out / shape.groups <= kernel.narrow_channels;
  return std::make_unique<FloatRows>(is_narrow ? *kernel.narrow : kernel, shape, filter, bias,
                                     pixels);
}

bool MultipliesPixels(const Pixels& pixels, const TfLiteTensor& filter) {
  return filter.type == kTfLiteInt8 &&
         std::all_of(pixels.multiplier, pixels.multiplier + pixels.channels,
                     [&](float multiplier) { return multiplier == pixels.multiplier[0]; });
}

std::unique_ptr<ConvRows> MakePixelRows(const ByteKernel& kernel, const ConvShape& shape,
                                        const TfLiteTensor& filter, const TfLiteTensor& bias,
                                        const Pixels& pixels) {
  return std::make_unique<PixelRows>(kernel, shape, filter, bias, pixels);
}

}  // namespace bireal
