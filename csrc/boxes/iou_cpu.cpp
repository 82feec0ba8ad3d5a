// Pairwise overlap metrics on the CPU: a tile of columns becomes a structure of arrays that stays in the
// first-level cache while the rows pass over it.
#include "boxes/iou_terms.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
inline constexpr int64_t kTileColumns = 4096 / int64_t(sizeof(T));
constexpr int64_t kRowsAtOnce = 64;

// Tiles of columns, of nearly equal widths: none is narrower than a vector where there are two.
template <class T>
struct Tiles {
  int64_t columns;
  int64_t count() const { return (columns + kTileColumns<T> - 1) / kTileColumns<T>; }
  int64_t start(int64_t tile) const {
    return tile == count() ? columns : tile * columns / count() / kLanes<T> * kLanes<T>;
  }
};

// Past the caches, which a large result would only empty. `to` is aligned to the vector.
template <class T>
GCV_HD void stream(T* to, Simd<T> values) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(values));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(values));
#elif defined(__x86_64__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(values));
#else
  store(to, values);
#endif
}

// Streamed stores are in no order with others until then.
GCV_HD void finish_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Writes `width` results for each of the rows. Up to `limit`, what lies behind a row's results is later
// written with its own.
template <IouKind kKind, bool kStream, class T>
void rows_over_tile(const TermArrays<T>& rows, int64_t row_count, const TermArrays<T>& columns, int64_t width,
                    T eps, T* result, int64_t row_stride, const T* limit) {
  constexpr int64_t n = kLanes<T>;
  for (int64_t row = 0; row < row_count; ++row, result += row_stride) {
    const BoxTerms<Simd<T>> a = splat_terms<kKind, false>(rows, row);
    const auto value = [&](int64_t j) {
      return overlap_value<kKind, IouForm::metric>(a, load_terms<kKind, false>(columns, j), eps);
    };
    if (width < n) {
      store_some(result, value(0), limit - result >= n ? n : width);
      continue;
    }
    int64_t j = 0;
    if constexpr (kStream) {
      const int64_t past = int64_t(reinterpret_cast<uintptr_t>(result) / sizeof(T)) % n;
      if (past != 0) {
        store(result, value(0));
        j = n - past;
      }
      for (; j + n <= width; j += n) stream(result + j, value(j));
    } else {
      for (; j + n <= width; j += n) store(result + j, value(j));
    }
    if (j < width) store(result + width - n, value(width - n));
  }
}

template <IouKind kKind, bool kStream, class Element>
void over_tiles(const PairwiseIouParams& p, int64_t begin, int64_t end) {
  using T = typename Compute<Element>::type;
  alignas(64) T column_memory[kTermFields * kTileColumns<T>];
  alignas(64) T row_memory[kTermFields * kRowsAtOnce];
  const TermArrays<T> columns{column_memory, kTileColumns<T>}, rows{row_memory, kRowsAtOnce};
  const int64_t n = p.boxes1.count, m = p.boxes2.count;
  const Tiles<T> tiles{m};
  while (begin < end) {
    const int64_t batch = begin / (n * tiles.count()), tile = begin / n % tiles.count(), first = begin % n;
    const int64_t last = first + (end - begin) < n ? first + (end - begin) : n;
    const int64_t start = tiles.start(tile), width = tiles.start(tile + 1) - start;
    T* image = static_cast<T*>(p.result) + batch * n * m;
    fill_terms<kKind, false, Element>(p.boxes2, batch, start, width, columns);
    for (int64_t row = first; row < last; row += kRowsAtOnce) {
      const int64_t count = last - row < kRowsAtOnce ? last - row : kRowsAtOnce;
      fill_terms<kKind, false, Element>(p.boxes1, batch, row, count, rows);
      rows_over_tile<kKind, kStream>(rows, count, columns, width, T(p.eps), image + row * m + start, m,
                                     image + last * m);
    }
    begin += last - first;
  }
  if (kStream) finish_streaming();
}

template <IouKind kKind, class Element>
void pairwise(const PairwiseIouParams& p, int64_t begin, int64_t end) {
  p.stream ? over_tiles<kKind, true, Element>(p, begin, end)
           : over_tiles<kKind, false, Element>(p, begin, end);
}

template <class Element>
void pairwise_of(const PairwiseIouParams& p, int64_t begin, int64_t end) {
  GCV_BY_KIND(p.kind, pairwise, Element, p, begin, end);
}

}  // namespace

int64_t pairwise_iou_items(const PairwiseIouParams& p) {
  const int64_t m = p.boxes2.count;
  const int64_t tiles = p.dtype == DType::f64 ? Tiles<double>{m}.count() : Tiles<float>{m}.count();
  return p.batch * tiles * p.boxes1.count;
}

void pairwise_iou_cpu(const PairwiseIouParams& p, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, pairwise_of, p, begin, end);
}

}  // namespace gcv::GCV_ISA
