// Convolutions with int8 weights as the definitions say them, one value at a time.
#include <cmath>

#include "delegate/kernels/byte_ops.h"

#define BIREAL_TARGET

namespace bireal {
namespace {

struct Vector {
  using Value = uint8_t;
  using Weight = int8_t;
  using Sums = int32_t;
  using Weights = int8_t;
  using Floats = float;
  static constexpr int kGroup = 1;
  static constexpr int kOffset = 0;
  static constexpr int kLanes = 1;
  static constexpr int kTilePixels = 1;
  static constexpr int kMaxVectors = 1;

  static Sums LoadSums(const int32_t* in) { return *in; }
  static Weights LoadWeights(const Weight* in) { return *in; }
  static Sums MultiplyAdd(const Value* x, Weights w, Sums sum) { return sum + *x * w; }
  static Floats LoadFloats(const float* in) { return *in; }
  static void StoreFloats(float* out, Floats value) { *out = value; }
  static Floats Broadcast(float value) { return value; }
  static Floats Max(Floats a, Floats b) { return a > b ? a : b; }
  static Floats Min(Floats a, Floats b) { return a < b ? a : b; }
  static Floats ToFloats(Sums sum) { return static_cast<float>(sum); }
  static void StoreRounded(Floats value, Value* out, int shift) {
    *out = static_cast<Value>(static_cast<int>(std::round(value)) + shift);
  }
};

}  // namespace
}  // namespace bireal

#include "delegate/kernels/byte_rows.h"

namespace bireal {

const ByteKernel kPortableBytes = {sizeof(Value), Vector::kGroup, PaddedChannels, WeightBytes, Pack,
                                   Widen,         ExtendRange,    Quantize,       Multiply};

}  // namespace bireal
