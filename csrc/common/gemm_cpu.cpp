// A product in blocks: for a stretch of the sums' length at a time, B's panels lie packed in the second-level
// cache and the rows of A of one tile in the first. C's tiles add up the stretches.
#include <string.h>

#include <type_traits>

#include "common/gemm.h"
#include "common/gemm_pack.h"
#include "common/workspace.h"

namespace gcv::GCV_ISA {
namespace {

constexpr int64_t kDepth = 512;      // of a stretch
constexpr int64_t kMostPanels = 16;  // of a block
// A factor that is used less often is read where it lies.
constexpr int64_t kPanelsToPackFor = 5, kTilesToPackFor = 9;

GCV_HD int64_t blocks_for(int64_t count, int64_t size) { return (count + size - 1) / size; }

GCV_HD int64_t at_most(int64_t x, int64_t most) { return x < most ? x : most; }

GCV_HD int64_t at_least_one(int64_t x) { return x < 1 ? 1 : x; }

GCV_HD int64_t greatest_common_divisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

// What a block covers of C.
struct Block {
  int64_t top, bottom, left, right;
};

Block block_at(const GemmParams& p, const GemmCuts& cuts, int64_t block, int64_t tile, int64_t panel) {
  const int64_t row = block / cuts.column_blocks, column = block % cuts.column_blocks;
  const int64_t tiles = blocks_for(p.m, tile), panels = blocks_for(p.n, panel);
  return {row * tiles / cuts.row_blocks * tile, at_most(p.m, (row + 1) * tiles / cuts.row_blocks * tile),
          column * panels / cuts.column_blocks * panel,
          at_most(p.n, (column + 1) * panels / cuts.column_blocks * panel)};
}

int64_t most_columns(const GemmParams& p, const GemmCuts& cuts, int64_t panel) {
  return blocks_for(blocks_for(p.n, panel), cuts.column_blocks) * panel;
}

template <class T>
void clear(const GemmParams& p, const Block& block) {
  for (int64_t i = block.top; i < block.bottom; ++i) {
    for (int64_t j = block.left; j < block.right; ++j) static_cast<T*>(p.c)[i * p.c_row + j] = 0;
  }
}

// C = or += a tile that was summed elsewhere, since its columns fill no vector.
template <class T>
void merge(const T* tile, int64_t tile_row, int64_t rows, int64_t columns, bool add, T* c, int64_t c_row) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const T sum = tile[i * tile_row + j];
      T& target = c[i * c_row + j];
      target = add ? target + sum : sum;
    }
  }
}

template <class Element>
class Product {
  using T = ComputeOf<Element>;
  static constexpr bool kInPlace = std::is_same<Element, T>::value;
  static constexpr int64_t kSpread = kLine / sizeof(T);  // keeps packed rows out of each other's cache sets

 public:
  Product(const GemmParams& p, const GemmCuts& cuts, void* scratch)
      : p_(p), cuts_(cuts), memory_(scratch), depth_(at_most(p.k, kDepth)) {
    packed_panels_ = memory_.template take<T>(depth_ * most_columns(p, cuts, kPanel<T>));
    packed_rows_ = memory_.template take<T>(kGemmRows * (depth_ + kSpread));
    edge_ = memory_.template take<T>(kGemmRows * kPanel<T>);
  }

  size_t bytes() const { return memory_.used(); }

  void run(int64_t block) {
    at_ = block_at(p_, cuts_, block, kGemmRows, kPanel<T>);
    if (p_.k == 0) clear<T>(p_, at_);
    for (int64_t k = 0; k < p_.k; k += depth_) add_stretch(k, at_most(depth_, p_.k - k));
  }

 private:
  struct Panels {
    const T* data;
    int64_t row, panel;  // strides
  };

  int64_t tile_rows(int64_t i) const { return at_most(kGemmRows, at_.bottom - i); }
  int64_t panel_columns(int64_t j) const { return at_most(kPanel<T>, at_.right - j); }

  GemmMatrix<Element> a_from(int64_t i, int64_t k) const {
    return {static_cast<const Element*>(p_.a) + i * p_.a_row + k * p_.a_column, p_.a_row, p_.a_column};
  }

  void add_stretch(int64_t k, int64_t depth) {
    const Panels panels = panels_of(k, depth);
    for (int64_t i = at_.top; i < at_.bottom; i += kGemmRows) {
      const GemmMatrix<T> rows = rows_of(i, k, depth);
      const bool fetches = packs_rows() && p_.a_column == 1 && i + kGemmRows < at_.bottom;
      for (int64_t j = at_.left; j < at_.right; j += kPanel<T>) {
        if (fetches) fetch_share(i + kGemmRows, k, depth, j);
        add_tile({i, j, k, depth}, rows, panels);
      }
    }
  }

  Panels panels_of(int64_t k, int64_t depth) const {
    const Element* b = static_cast<const Element*>(p_.b) + k * p_.b_row + at_.left * p_.b_column;
    if constexpr (kInPlace) {
      const bool often = at_.bottom - at_.top > (kTilesToPackFor - 1) * kGemmRows;
      const bool whole = p_.b_column == 1 && (at_.right - at_.left) % kLanes<T> == 0;
      if (whole && !often) return {b, p_.b_row, kPanel<T>};
    }
    for (int64_t j = at_.left; j < at_.right; j += kPanel<T>) {
      const int64_t columns = panel_columns(j);
      pack<Element>({b + (j - at_.left) * p_.b_column, p_.b_row, p_.b_column}, depth, columns,
                    packed_panels_ + (j - at_.left) * depth, kPanel<T>, vectors_for<T>(columns) * kLanes<T>);
    }
    return {packed_panels_, kPanel<T>, kPanel<T> * depth};
  }

  // With each row dense, or each column.
  GemmMatrix<T> rows_of(int64_t i, int64_t k, int64_t depth) const {
    const GemmMatrix<Element> a = a_from(i, k);
    if constexpr (kInPlace) {
      if ((a.row == 1 || a.column == 1) && !packs_rows()) return a;
    }
    if (a.row == 1) {
      pack<Element>({a.data, a.column, 1}, depth, tile_rows(i), packed_rows_, kGemmRows, tile_rows(i));
      return {packed_rows_, 1, kGemmRows};
    }
    pack<Element>(a, tile_rows(i), depth, packed_rows_, depth + kSpread, depth);
    return {packed_rows_, depth + kSpread, 1};
  }

  bool packs_rows() const { return !kInPlace || at_.right - at_.left > (kPanelsToPackFor - 1) * kPanel<T>; }

  // Brings the panel's share of the next tile's rows into the cache.
  void fetch_share(int64_t i, int64_t k, int64_t depth, int64_t j) const {
    const GemmMatrix<Element> a = a_from(i, k);
    const int64_t share = depth * kPanel<T> / (at_.right - at_.left) + 1;
    const int64_t first = (j - at_.left) / kPanel<T> * share, last = at_most(depth, first + share);
    for (int64_t row = 0; row < tile_rows(i); ++row) {
      for (int64_t step = first; step < last; step += kLine / int64_t(sizeof(Element)))
        __builtin_prefetch(a.data + row * a.row + step, 0, 2);
    }
  }

  struct Place {
    int64_t i, j, k, depth;
  };

  void add_tile(const Place& at, const GemmMatrix<T>& rows, const Panels& panels) const {
    const int64_t columns = panel_columns(at.j);
    const GemmSegment all{0, 0, at.depth};
    const GemmTile<T> tile{rows,
                           panels.data + (at.j - at_.left) / kPanel<T> * panels.panel,
                           panels.row,
                           {&all, 1},
                           static_cast<T*>(p_.c) + at.i * p_.c_row + at.j,
                           p_.c_row,
                           int(tile_rows(at.i)),
                           vectors_for<T>(columns),
                           at.k > 0};
    if (columns % kLanes<T> == 0) return GCV_ISA::gemm_tile(tile);
    GemmTile<T> apart = tile;
    apart.c = edge_;
    apart.c_row = kPanel<T>;
    apart.add = false;
    GCV_ISA::gemm_tile(apart);
    merge(edge_, kPanel<T>, tile.rows, columns, tile.add, tile.c, p_.c_row);
  }

  const GemmParams& p_;
  const GemmCuts& cuts_;
  Workspace memory_;
  int64_t depth_;
  T *packed_panels_, *packed_rows_, *edge_;
  Block at_;
};

// The same in pairs of bf16.
class PairProduct {
 public:
  PairProduct(const GemmParams& p, const GemmCuts& cuts, void* scratch)
      : p_(p), cuts_(cuts), memory_(scratch), depth_(at_most(padded(p.k), kDepth)) {
    panels_ = memory_.take<BFloat16>(depth_ * most_columns(p, cuts, kPairColumns));
    rows_ = memory_.take<BFloat16>(kPairRows * (depth_ + kSpread));
    edge_ = memory_.take<float>(kPairRows * kPairColumns);
  }

  size_t bytes() const { return memory_.used(); }

  void run(int64_t block) {
    at_ = block_at(p_, cuts_, block, kPairRows, kPairColumns);
    if (p_.k == 0) clear<float>(p_, at_);
    for (int64_t k = 0; k < p_.k; k += depth_) add_stretch(k, at_most(depth_, p_.k - k));
  }

 private:
  static constexpr int64_t kSpread = kLine / sizeof(BFloat16);

  static int64_t padded(int64_t k) { return blocks_for(k, kPairDepth) * kPairDepth; }

  void add_stretch(int64_t k, int64_t depth) const {
    const BFloat16* b = static_cast<const BFloat16*>(p_.b) + k * p_.b_row;
    for (int64_t j = at_.left; j < at_.right; j += kPairColumns)
      pack_pairs({b + j * p_.b_column, p_.b_row, p_.b_column}, depth, columns_from(j), panel_at(j, depth));
    for (int64_t i = at_.top; i < at_.bottom; i += kPairRows) {
      const int64_t rows = at_most(kPairRows, at_.bottom - i);
      const GemmMatrix<BFloat16> a = rows_of(i, rows, k, depth);
      for (int64_t j = at_.left; j < at_.right; j += kPairColumns) add_tile(a, i, rows, j, k, depth);
    }
  }

  int64_t columns_from(int64_t j) const { return at_most(kPairColumns, at_.right - j); }
  BFloat16* panel_at(int64_t j, int64_t depth) const { return panels_ + (j - at_.left) * padded(depth); }

  GemmMatrix<BFloat16> rows_of(int64_t i, int64_t rows, int64_t k, int64_t depth) const {
    const BFloat16* a = static_cast<const BFloat16*>(p_.a) + i * p_.a_row + k * p_.a_column;
    const bool often = at_.right - at_.left > (kPanelsToPackFor - 1) * kPairColumns;
    if (p_.a_column == 1 && depth == padded(depth) && !often) return {a, p_.a_row, 1};
    for (int64_t row = 0; row < rows; ++row) {
      BFloat16* to = rows_ + row * (depth_ + kSpread);
      copy_row(a + row * p_.a_row, depth, to);
      for (int64_t step = depth; step < padded(depth); ++step) to[step] = BFloat16{0};
    }
    return {rows_, depth_ + kSpread, 1};
  }

  void copy_row(const BFloat16* from, int64_t count, BFloat16* to) const {
    if (p_.a_column == 1) {
      memcpy(to, from, size_t(count) * sizeof(BFloat16));
    } else {
      for (int64_t step = 0; step < count; ++step) to[step] = from[step * p_.a_column];
    }
  }

  void add_tile(const GemmMatrix<BFloat16>& a, int64_t i, int64_t rows, int64_t j, int64_t k,
                int64_t depth) const {
    const GemmSegment all{0, 0, padded(depth)};
    float* c = static_cast<float*>(p_.c) + i * p_.c_row + j;
    const GemmSegments segments{&all, 1};
    const bool add = k > 0;
    if (columns_from(j) == kPairColumns)
      return multiply_({a.data, a.row, panel_at(j, depth), segments, c, p_.c_row, int(rows), add});
    multiply_({a.data, a.row, panel_at(j, depth), segments, edge_, kPairColumns, int(rows), false});
    merge(edge_, kPairColumns, rows, columns_from(j), add, c, p_.c_row);
  }

  const GemmParams& p_;
  const GemmCuts& cuts_;
  const GemmPairs multiply_;
  Workspace memory_;
  int64_t depth_;
  BFloat16 *panels_, *rows_;
  float* edge_;
  Block at_;
};

template <class Element>
GemmCuts cuts(const GemmParams& p, int64_t threads) {
  const int64_t columns = at_least_one(blocks_for(p.n, kMostPanels * kPanel<ComputeOf<Element>>));
  const int64_t rows = threads / greatest_common_divisor(threads, columns);
  return {at_least_one(at_most(rows, blocks_for(p.m, kGemmRows))), columns};
}

template <class Kind>
void run_blocks(const GemmParams& p, const GemmCuts& cuts, void* scratch, int64_t begin, int64_t end) {
  Kind product(p, cuts, scratch);
  for (int64_t block = begin; block < end; ++block) product.run(block);
}

template <class Element>
size_t scratch(const GemmParams& p, const GemmCuts& cuts) {
  return Product<Element>(p, cuts, nullptr).bytes();
}

template <class Element>
void run(const GemmParams& p, const GemmCuts& cuts, void* scratch, int64_t begin, int64_t end) {
  run_blocks<Product<Element>>(p, cuts, scratch, begin, end);
}

bool takes_pairs(const GemmParams& p) { return p.dtype == DType::bf16 && has_gemm_pairs(); }

}  // namespace

GemmCuts gemm_cuts_cpu(const GemmParams& p, int64_t threads) {
  return GCV_BY_DTYPE(p.dtype, cuts, p, threads);
}

size_t gemm_scratch_cpu(const GemmParams& p, const GemmCuts& cuts) {
  if (takes_pairs(p)) return PairProduct(p, cuts, nullptr).bytes();
  return GCV_BY_DTYPE(p.dtype, scratch, p, cuts);
}

void gemm_cpu(const GemmParams& p, const GemmCuts& cuts, void* scratch, int64_t begin, int64_t end) {
  if (takes_pairs(p)) return run_blocks<PairProduct>(p, cuts, scratch, begin, end);
  GCV_BY_DTYPE(p.dtype, run, p, cuts, scratch, begin, end);
}

}  // namespace gcv::GCV_ISA
