// Arrays that begin where a cache line does: no vector of theirs straddles two.
#ifndef BIREAL_DELEGATE_ALIGNED_H_
#define BIREAL_DELEGATE_ALIGNED_H_

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace bireal {

constexpr size_t kCacheLine = 64;

struct DeleteAligned {
  void operator()(void* array) const { ::operator delete(array, std::align_val_t{kCacheLine}); }
};

// T is a type that needs neither constructor nor destructor.
template <typename T>
using AlignedArray = std::unique_ptr<T[], DeleteAligned>;

// The elements are not initialized.
template <typename T>
AlignedArray<T> MakeAligned(size_t count) {
  void* array = ::operator new(count * sizeof(T), std::align_val_t{kCacheLine});
  return AlignedArray<T>(static_cast<T*>(array));
}

template <typename T>
AlignedArray<T> MakeZeros(size_t count) {
  AlignedArray<T> array = MakeAligned<T>(count);
  std::fill_n(array.get(), count, T{0});
  return array;
}

// `count` elements of T, or as many more as fill the last cache line.
template <typename T>
constexpr size_t WholeCacheLines(size_t count) {
  constexpr size_t kPerLine = kCacheLine / sizeof(T);
  return (count + kPerLine - 1) / kPerLine * kPerLine;
}

}  // namespace bireal

#endif  // BIREAL_DELEGATE_ALIGNED_H_
