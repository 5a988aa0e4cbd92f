// A row of LceBconv2d in tiles, whose sums become floats and signs while they are in registers or
// the first-level cache: what kernels share that do so.
#ifndef BIREAL_DELEGATE_KERNELS_BCONV_TILE_H_
#define BIREAL_DELEGATE_KERNELS_BCONV_TILE_H_

#include "delegate/kernels/bconv.h"

namespace bireal {

// The row that tiles write: counts, or floats and their signs.
struct RowOutput {
  int channels;
  int32_t* t;
  Affine affine;
  Residual residual;
  float* values;
  uint32_t* signs;
};

// The upper left corner of a tile in its row, and how many channels its group has from there on.
struct TilePosition {
  size_t pixel;
  int channel;
  int channels_left;
};

// Whether the filters of each group fill whole words of signs. Only then do tiles make floats.
inline bool FillsWords(const BconvShape& shape) {
  return shape.channels_out / shape.groups % kBitsPerWord == 0;
}

// Of FloatTiles<kClamp, kResidual, kRelu>::kTiles, those that do what has to be done: what is known
// when compiling costs nothing when false.
template <template <bool, bool, bool> class FloatTiles>
const auto& FloatTilesFor(const BconvShape& shape, const Affine& affine, const Residual& residual) {
  // Bits that a model sets after the last channel are counted, too.
  const int max_count = 2 * TapCount(shape) * shape.words_per_group * kBitsPerWord;
  const bool clamps = affine.clamp_min > 0 || affine.clamp_max < max_count;
  if (residual.shortcut == nullptr) {
    return clamps ? FloatTiles<true, false, false>::kTiles
                  : FloatTiles<false, false, false>::kTiles;
  }
  if (residual.relu) {
    return clamps ? FloatTiles<true, true, true>::kTiles : FloatTiles<false, true, true>::kTiles;
  }
  return clamps ? FloatTiles<true, true, false>::kTiles : FloatTiles<false, true, false>::kTiles;
}

}  // namespace bireal

#endif  // BIREAL_DELEGATE_KERNELS_BCONV_TILE_H_
