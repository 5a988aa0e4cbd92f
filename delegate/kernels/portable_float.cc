// Float operators as the definitions say them, one value at a time.
#include <cmath>

#include "delegate/kernels/float_ops.h"

#define BIREAL_TARGET

namespace bireal {
namespace {

struct Vector {
  using Type = float;
  static constexpr int kLanes = 1;
  static constexpr int kTileGroups = 1;
  static constexpr int kMaxVectors = 1;

  static Type Load(const float* in) { return *in; }
  static void Store(float* out, Type value) { *out = value; }
  static void StorePart(float* out, Type value, int) { *out = value; }
  static Type Broadcast(float value) { return value; }
  static Type MultiplyAdd(Type a, Type b, Type c) { return std::fma(a, b, c); }
  static Type Max(Type a, Type b) { return a > b ? a : b; }
  static Type IfNegative(Type x, Type a, Type b) { return x < 0.0f ? a : b; }
  static uint32_t Negative(Type x) { return x < 0.0f ? 1 : 0; }
  static void Pin(Type&) {}
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/float_rows.h"

namespace bireal {

const FloatKernel kPortableFloat = {
    false,      nullptr,         0,          WeightFloats,  Pack,
    RowFloats,  PrepareRow,      ConvRow,    ScratchFloats, BlockCount,
    ConvPixels, MaxRow,          AverageRow, DepthwiseRow,  Softmax,
    Logistic,   CombineChannels, PackScaled};

}  // namespace bireal
