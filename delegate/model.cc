#include "delegate/model.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace bireal {

void Fail(const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  throw ModelError(message);
}

const char* TypeName(TfLiteType type) {
  switch (type) {
    case kTfLiteFloat32:
      return "FLOAT32";
    case kTfLiteInt32:
      return "INT32";
    case kTfLiteBool:
      return "BOOL";
    case kTfLiteUInt8:
      return "UINT8";
    case kTfLiteInt8:
      return "INT8";
    case kTfLiteFloat16:
      return "FLOAT16";
    default:
      return "another type";
  }
}

const TfLiteTensor* FindTensor(const TfLiteContext& context, int index) {
  if (index < 0 || static_cast<size_t>(index) >= context.tensors_size) return nullptr;
  return &context.tensors[index];
}

const TfLiteTensor* FindFloat(const TfLiteContext& context, int index) {
  const TfLiteTensor* tensor = FindTensor(context, index);
  return tensor != nullptr && tensor->type == kTfLiteFloat32 ? tensor : nullptr;
}

bool IsConstant(const TfLiteTensor* tensor, int rank) {
  return tensor != nullptr && tensor->allocation_type == kTfLiteMmapRo && tensor->data != nullptr &&
         tensor->sparsity == nullptr && tensor->dims != nullptr && tensor->dims->size == rank;
}

const TfLiteFloatArray* FindScales(const TfLiteTensor* tensor) {
  if (tensor == nullptr || tensor->type != kTfLiteInt8 || tensor->dims == nullptr ||
      tensor->dims->size < 1 || !IsConstant(tensor, tensor->dims->size) ||
      tensor->quantization.type != kTfLiteAffineQuantization ||
      tensor->quantization.params == nullptr) {
    return nullptr;
  }
  const auto& affine = *static_cast<const TfLiteAffineQuantization*>(tensor->quantization.params);
  const TfLiteFloatArray* scales = affine.scale;
  const TfLiteIntArray* zeros = affine.zero_point;
  if (scales == nullptr || zeros == nullptr ||
      std::any_of(zeros->data, zeros->data + zeros->size, [](int zero) { return zero != 0; })) {
    return nullptr;
  }
  const bool is_of_outputs =
      affine.quantized_dimension == 0 && scales->size == tensor->dims->data[0];
  return scales->size == 1 || is_of_outputs ? scales : nullptr;
}

bool IsPacked(const TfLiteTensor* tensor) {
  if (tensor == nullptr || tensor->dims == nullptr) return false;
  return tensor->type == kTfLiteFloat16 ? IsConstant(tensor, tensor->dims->size)
                                        : FindScales(tensor) != nullptr;
}

namespace {

// IEEE 754's binary16.
float FromHalf(uint16_t half) {
  constexpr int kExponentShift = 10;
  const int exponent = half >> kExponentShift & 0x1f;
  const int fraction = half & 0x3ff;
  const float magnitude = exponent == 0x1f
                              ? (fraction == 0 ? INFINITY : NAN)
                              : std::ldexp(static_cast<float>(fraction + (exponent ? 0x400 : 0)),
                                           std::max(exponent, 1) - 15 - kExponentShift);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace

ConstantFloats::ConstantFloats(const TfLiteTensor& tensor)
    : model_(static_cast<const float*>(tensor.data)) {
  if (tensor.type == kTfLiteFloat16) {
    copy_.resize(tensor.bytes / sizeof(uint16_t));
    for (size_t i = 0; i < copy_.size(); ++i) {
      uint16_t half;
      std::memcpy(&half, static_cast<const char*>(tensor.data) + i * sizeof(half), sizeof(half));
      copy_[i] = FromHalf(half);
    }
  } else if (tensor.type == kTfLiteInt8) {
    const TfLiteFloatArray& scales = *FindScales(&tensor);
    const size_t output = tensor.bytes / tensor.dims->data[0];
    const auto* values = static_cast<const int8_t*>(tensor.data);
    copy_.resize(tensor.bytes);
    for (size_t i = 0; i < copy_.size(); ++i) {
      copy_[i] = scales.data[scales.size == 1 ? 0 : i / output] * static_cast<float>(values[i]);
    }
  } else if (reinterpret_cast<uintptr_t>(tensor.data) % alignof(float) != 0) {
    copy_.resize(tensor.bytes / sizeof(float));
    std::memcpy(copy_.data(), tensor.data, copy_.size() * sizeof(float));
  }
}

const TfLiteTensor& TensorAt(const TfLiteContext& context, int index, const char* what) {
  if (index < 0 || static_cast<size_t>(index) >= context.tensors_size) {
    Fail("%s: tensor %d does not exist; the graph has %zu tensors", what, index,
         context.tensors_size);
  }
  return context.tensors[index];
}

void RequireType(const TfLiteTensor& tensor, std::initializer_list<TfLiteType> types,
                 const char* what) {
  if (std::find(types.begin(), types.end(), tensor.type) != types.end()) return;
  char accepted[64] = "";
  for (TfLiteType type : types) {
    const size_t length = std::char_traits<char>::length(accepted);
    std::snprintf(accepted + length, sizeof(accepted) - length, "%s%s", length ? ", " : "",
                  TypeName(type));
  }
  Fail("%s: type %s (%d) is not supported; accepted: %s", what, TypeName(tensor.type),
       static_cast<int>(tensor.type), accepted);
}

namespace {

size_t SizeOf(TfLiteType type) {
  switch (type) {
    case kTfLiteFloat32:
    case kTfLiteInt32:
      return sizeof(uint32_t);
    case kTfLiteFloat16:
      return sizeof(uint16_t);
    default:
      return sizeof(uint8_t);
  }
}

}  // namespace

size_t BytesOf(const TfLiteTensor& tensor, const char* what) {
  if (tensor.dims == nullptr || tensor.dims->size < 1) Fail("%s: has no dimensions", what);
  size_t bytes = SizeOf(tensor.type);
  for (int i = 0; i < tensor.dims->size; ++i) {
    const int dim = tensor.dims->data[i];
    if (dim < 1) Fail("%s: dimension %d is %d, must be positive", what, i, dim);
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(dim), &bytes)) {
      Fail("%s: has more elements than memory can hold", what);
    }
  }
  return bytes;
}

void RequireRank(const TfLiteTensor& tensor, int rank, const char* what) {
  if (tensor.dims == nullptr || tensor.dims->size != rank) {
    Fail("%s: has %d dimensions, must have %d", what, tensor.dims ? tensor.dims->size : 0, rank);
  }
}

void RequireLastAxis(const TfLiteTensor& tensor, int axis) {
  if (axis == -1 || axis + 1 == tensor.dims->size) return;
  Fail("axis: %d of %d dimensions, must be the last one", axis, tensor.dims->size);
}

void RequireConstant(const TfLiteTensor& tensor, const char* what) {
  if (tensor.allocation_type != kTfLiteMmapRo || tensor.data == nullptr) {
    Fail("%s: must be a constant stored in the model", what);
  }
  const size_t bytes = BytesOf(tensor, what);
  if (tensor.bytes != bytes) {
    Fail("%s: has %zu bytes, its shape needs %zu", what, tensor.bytes, bytes);
  }
}

bool HasShape(const TfLiteTensor& tensor, const std::vector<int>& dims) {
  return std::equal(dims.begin(), dims.end(), tensor.dims->data,
                    tensor.dims->data + tensor.dims->size);
}

bool SameShape(const TfLiteTensor& a, const TfLiteTensor& b) {
  return a.dims != nullptr && b.dims != nullptr && a.dims->size == b.dims->size &&
         std::equal(a.dims->data, a.dims->data + a.dims->size, b.dims->data);
}

int LastDim(const TfLiteTensor& tensor) { return tensor.dims->data[tensor.dims->size - 1]; }

size_t RowCount(const TfLiteTensor& tensor) {
  size_t rows = 1;
  for (int i = 0; i + 1 < tensor.dims->size; ++i) rows *= tensor.dims->data[i];
  return rows;
}

int Product(int a, int b, const char* what) {
  int product = 0;
  if (__builtin_mul_overflow(a, b, &product)) Fail("%s: %d x %d is too large", what, a, b);
  return product;
}

std::vector<int> ShapeWith(const TfLiteTensor& tensor, int last_dim) {
  std::vector<int> dims(tensor.dims->data, tensor.dims->data + tensor.dims->size);
  dims.back() = last_dim;
  return dims;
}

void ResizeTensor(TfLiteContext* context, int index, const std::vector<int>& dims,
                  const char* what) {
  void* memory = std::malloc(sizeof(TfLiteIntArray) + dims.size() * sizeof(int));
  if (memory == nullptr) throw std::bad_alloc();
  auto* shape = static_cast<TfLiteIntArray*>(memory);  // The interpreter takes ownership.
  shape->size = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), shape->data);
  if (context->ResizeTensor(context, &context->tensors[index], shape) != kTfLiteOk) {
    Fail("%s: cannot be resized", what);
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

int Option(const FlexMap& options, const char* name, int min, int max) {
  int64_t value = 0;
  if (!options.GetInt(name, &value)) Fail("option `%s` is missing or not an integer", name);
  if (value < min || value > max) {
    Fail("option `%s` must be in [%d, %d]. Received: %lld", name, min, max,
         static_cast<long long>(value));
  }
  return static_cast<int>(value);
}

namespace {

void ResolveAxis(Padding::Kind padding, const char* axis, int64_t in, int64_t filter,
                 int64_t stride, int64_t dilation, int* out, int* pad_before) {
  const int64_t extent = (filter - 1) * dilation + 1;
  if (extent > INT32_MAX) Fail("the dilated filter's %s is too large", axis);
  const int64_t covered = padding == Padding::kSame ? in : in - extent + 1;
  if (covered < 1) {
    Fail("a filter of %s %lld does not fit an input of %lld without padding", axis,
         static_cast<long long>(extent), static_cast<long long>(in));
  }
  const int64_t size = (covered + stride - 1) / stride;
  // One past the last coordinate that any tap looks at, padding included.
  const int64_t end = (size - 1) * stride + extent;
  if (end > INT32_MAX) Fail("the padded input's %s is too large", axis);
  *out = static_cast<int>(size);
  *pad_before =
      padding == Padding::kSame ? static_cast<int>(std::max<int64_t>(0, end - in) / 2) : 0;
}

}  // namespace

bool ParsePadding(int builtin, Padding::Kind* padding) {
  *padding = builtin == kTfLitePaddingSame ? Padding::kSame : Padding::kValid;
  return builtin == kTfLitePaddingSame || builtin == kTfLitePaddingValid;
}

void ResolveWindow(Padding::Kind padding, Window* window) {
  ResolveAxis(padding, "height", window->in_h, window->filter_h, window->stride_h,
              window->dilation_h, &window->out_h, &window->pad_top);
  ResolveAxis(padding, "width", window->in_w, window->filter_w, window->stride_w,
              window->dilation_w, &window->out_w, &window->pad_left);
}

}  // namespace bireal
