// Checked access to what a model file says: tensors, shapes, options.
#ifndef BIREAL_DELEGATE_MODEL_H_
#define BIREAL_DELEGATE_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "delegate/flexbuffer.h"
#include "delegate/kernels/window.h"
#include "delegate/tflite_abi.h"

namespace bireal {

// The model is malformed, or asks for what no LCE op can do. `what()` says which op it is about,
// which part of it, what was received and what is accepted.
class ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws ModelError with a printf-formatted message.
[[noreturn]] void Fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Runs `body` and puts `name` before the message of a ModelError.
template <typename Body>
void Named(const std::string& name, const Body& body) {
  try {
    body();
  } catch (const ModelError& error) {
    throw ModelError(name + ": " + error.what());
  }
}

const char* TypeName(TfLiteType type);

// The tensor of that index, if there is one, and it is of float32; else null.
const TfLiteTensor* FindTensor(const TfLiteContext& context, int index);
const TfLiteTensor* FindFloat(const TfLiteContext& context, int index);

// Whether the tensor is a value with `rank` dimensions that is stored in the model, and densely.
bool IsConstant(const TfLiteTensor* tensor, int rank);

// The scales of weights of int8, whose zero is 0: one for all, or one for each of the outputs, the
// first dimension. Null if the tensor is not such a constant.
const TfLiteFloatArray* FindScales(const TfLiteTensor* tensor);

// Whether the tensor is a constant of float16 or such a one of int8, which a DEQUANTIZE can make
// floats of.
bool IsPacked(const TfLiteTensor* tensor);

// The values of a constant of floats or of one that is packed: the model's own, or a copy where
// they are not floats or not aligned there. The constant's bytes have been checked.
class ConstantFloats {
 public:
  explicit ConstantFloats(const TfLiteTensor& tensor);
  const float* data() const { return copy_.empty() ? model_ : copy_.data(); }

 private:
  const float* model_;
  std::vector<float> copy_;
};

// The tensor of that index. Throws when there is none; `what` names it in the message, here
// and below.
const TfLiteTensor& TensorAt(const TfLiteContext& context, int index, const char* what);

// Throws unless the tensor is of one of the types.
void RequireType(const TfLiteTensor& tensor, std::initializer_list<TfLiteType> types,
                 const char* what);

// The bytes that a tensor of one of our types and of this shape needs. Throws unless it has at
// least one dimension, all positive.
//
// It may have others until the model is run: in the branch of an IF, for one, a tensor that the
// branch is given has none before.
size_t BytesOf(const TfLiteTensor& tensor, const char* what);

// Throws unless the tensor has `rank` dimensions.
void RequireRank(const TfLiteTensor& tensor, int rank, const char* what);

// Throws unless the axis is the tensor's last one, by its number or as -1.
void RequireLastAxis(const TfLiteTensor& tensor, int axis);

// Throws unless the tensor's values are stored in the model, and are as many as its shape says.
void RequireConstant(const TfLiteTensor& tensor, const char* what);

bool HasShape(const TfLiteTensor& tensor, const std::vector<int>& dims);
bool SameShape(const TfLiteTensor& a, const TfLiteTensor& b);

// The last dimension, and the product of all others, of a tensor that has its shape.
int LastDim(const TfLiteTensor& tensor);
size_t RowCount(const TfLiteTensor& tensor);

// a * b, throws where that exceeds 2^31 - 1.
int Product(int a, int b, const char* what);

// The tensor's shape with another last dimension.
std::vector<int> ShapeWith(const TfLiteTensor& tensor, int last_dim);

// Throws where the interpreter refuses.
void ResizeTensor(TfLiteContext* context, int index, const std::vector<int>& dims,
                  const char* what);

// The options of a node. Throws when there are none or they are no FlexBuffer map.
FlexMap ParseOptions(const TfLiteNode& node);

// The integer option of that name. Throws when it is missing or not in [min, max].
int Option(const FlexMap& options, const char* name, int min, int max);

// The geometry of a "SAME" or "VALID" filter, by TensorFlow's rules.
struct Padding {
  enum Kind { kSame = 0, kValid = 1 };
};

// The padding of a built-in op. Returns whether it is one.
bool ParsePadding(int builtin, Padding::Kind* padding);

// Fills in out_h, out_w, pad_top and pad_left. Throws when nothing is left of the image, or
// when the sizes are beyond what 32-bit coordinates can address.
void ResolveWindow(Padding::Kind padding, Window* window);

}  // namespace bireal

#endif  // BIREAL_DELEGATE_MODEL_H_
