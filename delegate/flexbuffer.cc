#include "delegate/flexbuffer.h"

#include <cstring>

namespace bireal {
namespace {

// Value types, the upper six bits of a packed type; the lower two are log2 of the width.
enum Type : int {
  kInt = 1,
  kUnsigned = 2,
  kIndirectInt = 6,
  kIndirectUnsigned = 7,
  kMap = 9,
  kBool = 26,
};

bool IsWidth(uint64_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }

}  // namespace

bool FlexMap::ReadUnsigned(size_t position, size_t width, uint64_t* value) const {
  if (position > size_ || width > size_ - position) return false;
  // FlexBuffers are little-endian.
  *value = 0;
  for (size_t i = 0; i < width; ++i) *value |= uint64_t{data_[position + i]} << (8 * i);
  return true;
}

bool FlexMap::ReadSigned(size_t position, size_t width, int64_t* value) const {
  uint64_t bits = 0;
  if (!ReadUnsigned(position, width, &bits)) return false;
  const uint64_t sign = uint64_t{1} << (8 * width - 1);
  *value = static_cast<int64_t>((bits ^ sign) - sign);
  return true;
}

bool FlexMap::Follow(size_t position, size_t width, size_t* target) const {
  uint64_t offset = 0;
  if (!ReadUnsigned(position, width, &offset) || offset > position) return false;
  *target = position - static_cast<size_t>(offset);
  return true;
}

bool FlexMap::KeyEquals(size_t position, const char* key) const {
  const size_t length = std::strlen(key) + 1;  // With the terminating zero.
  return length <= size_ - position && std::memcmp(data_ + position, key, length) == 0;
}

bool FlexMap::Parse(const void* data, size_t size) {
  data_ = static_cast<const uint8_t*>(data);
  size_ = size;
  length_ = 0;
  // The end: ... root value, its packed type, its width.
  if (data_ == nullptr || size < 3) return false;
  const size_t root_width = data_[size - 1];
  const int root_type = data_[size - 2];
  if (!IsWidth(root_width) || root_width > size - 2 || root_type >> 2 != kMap) return false;
  if (!Follow(size - 2 - root_width, root_width, &values_)) return false;
  value_width_ = size_t{1} << (root_type & 3);

  // Before the values: offset to the keys, width of the keys, length.
  if (values_ < 3 * value_width_) return false;
  uint64_t key_width = 0;
  uint64_t length = 0;
  if (!Follow(values_ - 3 * value_width_, value_width_, &keys_) ||
      !ReadUnsigned(values_ - 2 * value_width_, value_width_, &key_width) ||
      !ReadUnsigned(values_ - value_width_, value_width_, &length)) {
    return false;
  }
  // After the values there is one packed type for each.
  if (!IsWidth(key_width) || length > (size - values_) / (value_width_ + 1) ||
      length > (size - keys_) / key_width) {
    return false;
  }
  key_width_ = static_cast<size_t>(key_width);
  length_ = static_cast<size_t>(length);
  return true;
}

bool FlexMap::GetInt(const char* key, int64_t* value) const {
  for (size_t i = 0; i < length_; ++i) {
    size_t key_position = 0;
    if (!Follow(keys_ + i * key_width_, key_width_, &key_position)) return false;
    if (!KeyEquals(key_position, key)) continue;

    size_t position = values_ + i * value_width_;
    size_t width = value_width_;
    const int packed_type = data_[values_ + length_ * value_width_ + i];
    const int type = packed_type >> 2;
    if (type == kIndirectInt || type == kIndirectUnsigned) {
      if (!Follow(position, width, &position)) return false;
      width = size_t{1} << (packed_type & 3);
    }
    if (type == kInt || type == kIndirectInt) return ReadSigned(position, width, value);
    if (type == kUnsigned || type == kIndirectUnsigned || type == kBool) {
      uint64_t bits = 0;
      if (!ReadUnsigned(position, width, &bits) || bits > INT64_MAX) return false;
      *value = static_cast<int64_t>(bits);
      return true;
    }
    return false;
  }
  return false;
}

}  // namespace bireal
