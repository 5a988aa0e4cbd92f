// How bit-packed tensors hold their channels: 32 to a word, channel c in bit c % 32 of word
// c / 32. Bit 0 means +1 and bit 1 means -1; the bits after the last channel are 0.
#ifndef BIREAL_DELEGATE_KERNELS_BITS_H_
#define BIREAL_DELEGATE_KERNELS_BITS_H_

namespace bireal {

constexpr int kBitsPerWord = 32;

// a / b, rounded up. `a` must be positive.
constexpr int DivideUp(int a, int b) { return (a - 1) / b + 1; }

constexpr int WordsFor(int channels) { return DivideUp(channels, kBitsPerWord); }

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_BITS_H_
