// What convolutions read in place of floats: nodes before them only convert it.
#ifndef BIREAL_DELEGATE_SOURCES_H_
#define BIREAL_DELEGATE_SOURCES_H_

#include <string>
#include <unordered_map>
#include <vector>

#include "delegate/claim.h"
#include "delegate/tflite_abi.h"

namespace bireal {

// An image of uint8, whose floats are pixel * multiplier - offset, rounded after each.
struct Pixels {
  static constexpr int kMaxChannels = 4;

  int tensor;
  int channels;
  float multiplier[kMaxChannels];  // One for each channel, as the offsets.
  float offset[kMaxChannels];
};

// The conversions among some nodes: a DEQUANTIZE of constant weights, and the CAST, the MUL and the
// SUB that make numbers of pixels. A convolution reads through them, to what they convert, and what
// they would write never exists. That holds only where nobody else reads it.
class Sources {
 public:
  // Without any.
  Sources() = default;
  Sources(const TfLiteContext& context, const std::vector<PlannedNode>& nodes);

  // The constant that a DEQUANTIZE makes the weights of, or the tensor itself.
  int Stored(int tensor) const;
  // That constant if it has `rank` dimensions; null unless the tensor's values are known and
  // floats.
  const TfLiteTensor* FindWeights(const TfLiteContext& context, int tensor, int rank) const;
  // What pixels the image is made of, or null.
  const Pixels* FindPixels(int tensor) const;

  // Whether the tensor is what a conversion writes.
  bool IsConverted(int tensor) const;
  // The conversions that make the tensor, as a step is named: "CAST (node 0) + MUL (node 1) + ".
  std::string NameOf(int tensor) const;
  // Whether the node is a conversion.
  bool Converts(const TfLiteNode& node) const;

 private:
  void AddName(const char* op, const PlannedNode& planned);

  std::unordered_map<int, int> stored_;
  std::unordered_map<int, Pixels> pixels_;
  std::unordered_map<int, std::string> names_;  // Of what is in either.
};

}  // namespace bireal

#endif  // BIREAL_DELEGATE_SOURCES_H_
