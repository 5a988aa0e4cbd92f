#include "delegate/kernels/quantize.h"

namespace bireal {
namespace {

template <typename T, typename IsNegative>
void Pack(const T* in, size_t rows, int channels, const IsNegative& is_negative, uint32_t* out) {
  for (size_t row = 0; row < rows; ++row, in += channels) {
    for (int c = 0; c < channels; c += kBitsPerWord) {
      uint32_t word = 0;
      for (int bit = 0; bit < kBitsPerWord && c + bit < channels; ++bit) {
        word |= static_cast<uint32_t>(is_negative(in[c + bit])) << bit;
      }
      *out++ = word;
    }
  }
}

template <typename T>
void Unpack(const uint32_t* in, size_t rows, int channels, T plus, T minus, T* out) {
  // No branches: signs are as hard to predict as anything.
  const T values[] = {plus, minus};
  for (size_t row = 0; row < rows; ++row, out += channels) {
    for (int c = 0; c < channels; c += kBitsPerWord) {
      uint32_t word = *in++;
      for (int bit = 0; bit < kBitsPerWord && c + bit < channels; ++bit, word >>= 1) {
        out[c + bit] = values[word & 1];
      }
    }
  }
}

}  // namespace

void PackInt8(const int8_t* in, size_t rows, int channels, int32_t zero_point, uint32_t* out) {
  Pack(in, rows, channels, [zero_point](int8_t x) { return x < zero_point; }, out);
}

void PackBool(const uint8_t* in, size_t rows, int channels, uint32_t* out) {
  Pack(in, rows, channels, [](uint8_t x) { return x == 0; }, out);
}

void UnpackFloat(const uint32_t* in, size_t rows, int channels, float plus, float minus,
                 float* out) {
  Unpack(in, rows, channels, plus, minus, out);
}

void UnpackBytes(const uint32_t* in, size_t rows, int channels, uint8_t plus, uint8_t minus,
                 uint8_t* out) {
  Unpack(in, rows, channels, plus, minus, out);
}

}  // namespace bireal
