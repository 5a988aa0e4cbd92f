// Reads the options of LCE's custom ops: a FlexBuffer map from names to integers.
//
// Format: https://flatbuffers.dev/internals/#flexbuffers. The buffer comes from a model file
// and may hold anything, so every position is checked before it is read.
#ifndef BIREAL_DELEGATE_FLEXBUFFER_H_
#define BIREAL_DELEGATE_FLEXBUFFER_H_

#include <cstddef>
#include <cstdint>

namespace bireal {

class FlexMap {
 public:
  // A view of `size` bytes at `data`, which must outlive it. False when they hold no map.
  bool Parse(const void* data, size_t size);

  // The integer (or boolean) of that name, whatever width it is stored in. False when there
  // is none, when it is of another type, or when it lies outside the buffer.
  bool GetInt(const char* key, int64_t* value) const;

 private:
  bool ReadUnsigned(size_t position, size_t width, uint64_t* value) const;
  bool ReadSigned(size_t position, size_t width, int64_t* value) const;
  // The position that the offset stored at `position` points back to.
  bool Follow(size_t position, size_t width, size_t* target) const;
  bool KeyEquals(size_t position, const char* key) const;

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t values_ = 0;       // Position of the first value.
  size_t value_width_ = 0;  // Bytes of a value.
  size_t keys_ = 0;         // Position of the first offset to a key.
  size_t key_width_ = 0;    // Bytes of such an offset.
  size_t length_ = 0;       // Entries.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_FLEXBUFFER_H_
