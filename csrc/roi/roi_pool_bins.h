// The pixels of a region's bins, computed once for all channels of a block. Only roi_pool*_cpu.cpp files
// include this.
#pragma once

#include <cstddef>

#include "roi/roi_pool.h"

namespace gcv::GCV_ISA {
namespace {

struct Bins {
  Extent *y, *x;

  template <class T>
  void set(const PoolShape& s, const PoolRegion<T>& region) {
    for (int64_t i = 0; i < s.rows; ++i) y[i] = pool_extent(region.y, i, s.height);
    for (int64_t j = 0; j < s.columns; ++j) x[j] = pool_extent(region.x, j, s.width);
  }

  // All pixels of the region.
  Extent rows(const PoolShape& s) const { return {y[0].begin, y[s.rows - 1].end}; }
  Extent columns(const PoolShape& s) const { return {x[0].begin, x[s.columns - 1].end}; }
};

GCV_HD size_t bin_bytes(const PoolShape& s) {
  constexpr size_t line = 64;
  return (size_t(s.rows + s.columns) * sizeof(Extent) + line - 1) / line * line;
}

// Scratch memory: the bins, then arrays of whole vectors.
class BinMemory {
 public:
  BinMemory(void* scratch, const PoolShape& s) {
    bins.y = static_cast<Extent*>(scratch);
    bins.x = bins.y + s.rows;
    next_ = static_cast<char*>(scratch) + bin_bytes(s);
  }

  template <class T>
  T* take(int64_t count) {
    T* array = reinterpret_cast<T*>(next_);
    next_ += size_t(count) * sizeof(T);
    return array;
  }

  template <class T>
  T* rest() const {
    return reinterpret_cast<T*>(next_);
  }

  Bins bins;

 private:
  char* next_;
};

GCV_HD int64_t block_channels(const PoolShape& s, int64_t first, int64_t block) {
  return s.channels - first < block ? s.channels - first : block;
}

}  // namespace
}  // namespace gcv::GCV_ISA
