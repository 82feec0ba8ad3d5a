// Boxes that are decided together on the device, one tile by one warp. Included by *_cuda.cu only.
#pragma once

#include "common/box.h"
#include "common/elements_cuda.h"

namespace gcv {

constexpr int kTile = 64;  // boxes decided together: one 64-bit word of a pairwise mask

// In the type that decisions are computed in, aligned for 16-byte loads.
template <class T>
struct alignas(16) PackedBox : Box<T> {};

// The greedy pass inside one tile, by one warp. The lane holds, for box `lane` (low) and box `lane + 32`
// (high) of the tile, the earlier boxes of the tile that suppress it if they are kept. Returns the kept boxes
// among `open`. Every round decides all boxes whose earlier suppressors are decided: as many rounds as the
// longest chain, not 64.
__device__ __forceinline__ uint64_t greedy_tile(uint64_t low, uint64_t high, uint64_t open) {
  const uint64_t low_bit = uint64_t(1) << lane_id(), high_bit = low_bit << 32;
  const auto vote = [&](bool low_vote, bool high_vote) {
    const uint64_t lower = __ballot_sync(kFullWarp, low_vote);
    return lower | uint64_t(__ballot_sync(kFullWarp, high_vote)) << 32;
  };
  uint64_t kept = 0;
  while (open != 0) {
    kept |= vote((open & low_bit) != 0 && (low & open) == 0, (open & high_bit) != 0 && (high & open) == 0);
    open &= ~kept;
    open &= ~vote((low & kept) != 0, (high & kept) != 0);
  }
  return kept;
}

}  // namespace gcv
