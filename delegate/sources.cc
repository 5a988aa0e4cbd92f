#include "delegate/sources.h"

#include <algorithm>
#include <unordered_set>

#include "delegate/model.h"

namespace bireal {
namespace {

// How often a tensor is written and read, and as which input of a node.
struct Use {
  int writers = 0;
  int readers = 0;
  int position = 0;
};

constexpr int kImage = 0;
constexpr int kWeights = 1;

// Whether the node has that many inputs, and floats as its output, which it alone makes, for one
// reader alone, as the input of that position.
bool Converts(const TfLiteContext& context, const TfLiteNode& node, int inputs,
              const std::unordered_map<int, Use>& uses, int position) {
  if (node.inputs == nullptr || node.inputs->size != inputs || node.outputs == nullptr ||
      node.outputs->size != 1) {
    return false;
  }
  const int output = node.outputs->data[0];
  const TfLiteTensor* tensor = FindFloat(context, output);
  if (tensor == nullptr || tensor->allocation_type == kTfLiteMmapRo) return false;
  const Use& use = uses.at(output);
  return use.writers == 1 && use.readers == 1 && use.position == position;
}

// The factor or summand of each channel, of a constant that has one or as many. Returns whether
// the tensor is such a constant.
bool ReadChannels(const TfLiteContext& context, int index, int channels, float* values) {
  const TfLiteTensor* tensor = FindFloat(context, index);
  if (tensor == nullptr || tensor->dims == nullptr || tensor->dims->size > 4 ||
      !IsConstant(tensor, tensor->dims->size)) {
    return false;
  }
  int count = 1;
  for (int i = 0; i < tensor->dims->size; ++i) {
    const int dim = tensor->dims->data[i];
    const bool is_last = i + 1 == tensor->dims->size;
    if (dim != 1 && !(is_last && dim == channels)) return false;
    count = dim;
  }
  if (tensor->bytes != count * sizeof(float)) return false;
  const ConstantFloats constant(*tensor);
  for (int c = 0; c < channels; ++c) values[c] = constant.data()[count == 1 ? 0 : c];
  return true;
}

// Whether the tensor is an image of uint8, which is no constant. Fills in `pixels`.
bool ReadImage(const TfLiteContext& context, int index, Pixels* pixels) {
  const TfLiteTensor* tensor = FindTensor(context, index);
  if (tensor == nullptr || tensor->type != kTfLiteUInt8 || tensor->dims == nullptr ||
      tensor->dims->size != 4 || tensor->allocation_type == kTfLiteMmapRo) {
    return false;
  }
  const int channels = tensor->dims->data[3];
  if (channels < 1 || channels > Pixels::kMaxChannels) return false;
  pixels->tensor = index;
  pixels->channels = channels;
  std::fill_n(pixels->multiplier, Pixels::kMaxChannels, 1.0f);
  std::fill_n(pixels->offset, Pixels::kMaxChannels, 0.0f);
  return true;
}

template <typename Params>
bool HasNoActivation(const TfLiteNode& node) {
  return node.builtin_data != nullptr &&
         static_cast<const Params*>(node.builtin_data)->activation == kTfLiteActNone;
}

}  // namespace

Sources::Sources(const TfLiteContext& context, const std::vector<PlannedNode>& nodes) {
  std::unordered_map<int, Use> uses;
  for (const PlannedNode& planned : nodes) {
    const TfLiteIntArray* inputs = planned.node->inputs;
    const TfLiteIntArray* outputs = planned.node->outputs;
    for (int i = 0; outputs != nullptr && i < outputs->size; ++i) ++uses[outputs->data[i]].writers;
    for (int i = 0; inputs != nullptr && i < inputs->size; ++i) {
      Use& use = uses[inputs->data[i]];
      ++use.readers;
      use.position = i;
    }
  }

  // Which of these the next node may still multiply, or subtract from.
  std::unordered_set<int> unscaled;
  std::unordered_set<int> unshifted;
  for (const PlannedNode& planned : nodes) {
    const TfLiteNode& node = *planned.node;
    const auto converts = [&](int inputs, int position) {
      return bireal::Converts(context, node, inputs, uses, position);
    };
    switch (planned.registration->builtin_code) {
      case kTfLiteBuiltinDequantize:
        if (converts(1, kWeights) && IsPacked(FindTensor(context, node.inputs->data[0]))) {
          stored_.emplace(node.outputs->data[0], node.inputs->data[0]);
          AddName("DEQUANTIZE", planned);
        }
        break;
      case kTfLiteBuiltinCast: {
        Pixels pixels;
        if (!converts(1, kImage) || !ReadImage(context, node.inputs->data[0], &pixels)) break;
        const int output = node.outputs->data[0];
        pixels_.emplace(output, pixels);
        AddName("CAST", planned);
        unscaled.insert(output);
        unshifted.insert(output);
        break;
      }
      case kTfLiteBuiltinMul:
        if (converts(2, kImage) && unscaled.count(node.inputs->data[0]) != 0 &&
            HasNoActivation<TfLiteMulParams>(node)) {
          Pixels pixels = pixels_.at(node.inputs->data[0]);
          if (!ReadChannels(context, node.inputs->data[1], pixels.channels, pixels.multiplier)) {
            break;
          }
          pixels_.emplace(node.outputs->data[0], pixels);
          AddName("MUL", planned);
          unshifted.insert(node.outputs->data[0]);
        }
        break;
      case kTfLiteBuiltinSub:
        if (converts(2, kImage) && unshifted.count(node.inputs->data[0]) != 0 &&
            HasNoActivation<TfLiteSubParams>(node)) {
          Pixels pixels = pixels_.at(node.inputs->data[0]);
          if (ReadChannels(context, node.inputs->data[1], pixels.channels, pixels.offset)) {
            pixels_.emplace(node.outputs->data[0], pixels);
            AddName("SUB", planned);
          }
        }
        break;
      default:
        break;
    }
  }
}

void Sources::AddName(const char* op, const PlannedNode& planned) {
  names_[planned.node->outputs->data[0]] = NameOf(planned.node->inputs->data[0]) + op + " (node " +
                                           std::to_string(planned.index) + ") + ";
}

std::string Sources::NameOf(int tensor) const {
  const auto found = names_.find(tensor);
  return found != names_.end() ? found->second : std::string();
}

int Sources::Stored(int tensor) const {
  const auto found = stored_.find(tensor);
  return found != stored_.end() ? found->second : tensor;
}

const TfLiteTensor* Sources::FindWeights(const TfLiteContext& context, int tensor, int rank) const {
  const int stored = Stored(tensor);
  const TfLiteTensor* weights =
      stored == tensor ? FindFloat(context, tensor) : FindTensor(context, stored);
  return IsConstant(weights, rank) ? weights : nullptr;
}

const Pixels* Sources::FindPixels(int tensor) const {
  const auto found = pixels_.find(tensor);
  return found != pixels_.end() ? &found->second : nullptr;
}

bool Sources::IsConverted(int tensor) const {
  return stored_.count(tensor) != 0 || pixels_.count(tensor) != 0;
}

bool Sources::Converts(const TfLiteNode& node) const {
  return node.outputs != nullptr && node.outputs->size == 1 && IsConverted(node.outputs->data[0]);
}

}  // namespace bireal
