// Drives the products of common/gemm.h at every instruction set and unit for pairs with exactly sized memory,
// for the sanitizers, and compares them with three loops.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "common/gemm.h"
#include "common/gemm_pairs.h"

namespace {

int failures = 0;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up, and with NaN inside: the sanitizer sees the first byte too many, the comparison what was
// not set.
std::unique_ptr<void, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(bytes, 1)) != 0) std::abort();
  std::fill_n(static_cast<unsigned char*>(p), bytes, (unsigned char)(0xff));
  return std::unique_ptr<void, Free>(p);
}

double number(int64_t i) { return double((i * 7919 + 13) % 257 - 128) / 64; }  // exact in every type

template <class Element>
struct Of;
template <>
struct Of<float> {
  static constexpr gcv::DType dtype = gcv::DType::f32;
};
template <>
struct Of<double> {
  static constexpr gcv::DType dtype = gcv::DType::f64;
};
template <>
struct Of<gcv::Half> {
  static constexpr gcv::DType dtype = gcv::DType::f16;
};
template <>
struct Of<gcv::BFloat16> {
  static constexpr gcv::DType dtype = gcv::DType::bf16;
};

// Strides of a matrix that ends with its last element.
struct Layout {
  int64_t row, column;
};

enum class Order { rows_dense, columns_dense, spread };

Layout layout(Order order, int64_t rows, int64_t columns) {
  if (order == Order::rows_dense) return {columns + 3, 1};
  if (order == Order::columns_dense) return {1, rows + 1};
  return {2 * columns + 1, 2};
}

template <class Element>
std::vector<Element> filled(const Layout& at, int64_t rows, int64_t columns, int64_t seed) {
  const int64_t size = rows * columns == 0 ? 0 : (rows - 1) * at.row + (columns - 1) * at.column + 1;
  std::vector<Element> values(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i)
    gcv::narrow(typename gcv::Compute<Element>::type(number(i + seed)), values[size_t(i)]);
  return values;
}

template <class Element>
struct Problem {
  using T = typename gcv::Compute<Element>::type;
  int64_t m, n, k;
  Layout a_at, b_at;
  std::vector<Element> a, b;

  Problem(int64_t m_, int64_t n_, int64_t k_, Order a_order, Order b_order)
      : m(m_),
        n(n_),
        k(k_),
        a_at(layout(a_order, m, k)),
        b_at(layout(b_order, k, n)),
        a(filled<Element>(a_at, m, k, 0)),
        b(filled<Element>(b_at, k, n, 5)) {}

  // In as many blocks as `threads` have, on two.
  std::vector<T> product(int64_t threads) const {
    const int64_t c_row = n + 2;
    std::vector<T> c(size_t(m * c_row), T(77));
    const gcv::GemmParams p{a.data(), a_at.row, a_at.column, b.data(), b_at.row, b_at.column,
                            c.data(), c_row,    m,           n,        k,        Of<Element>::dtype};
    const gcv::GemmCuts cuts = gcv::gemm_cuts_cpu(p, threads);
    const int64_t blocks = cuts.row_blocks * cuts.column_blocks;
    const auto half = [&](int64_t begin, int64_t end) {
      gcv::gemm_cpu(p, cuts, exactly(gcv::gemm_scratch_cpu(p, cuts)).get(), begin, end);
    };
    std::thread other(half, 0, blocks / 2);
    half(blocks / 2, blocks);
    other.join();
    return c;
  }

  // Null where all is as it should be.
  const char* fault(const std::vector<T>& c) const {
    const double unit = std::is_same<T, double>::value ? 1e-15 : 1e-6;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0, size = 0;
        for (int64_t s = 0; s < k; ++s) {
          const double term = double(gcv::widen(a[size_t(i * a_at.row + s * a_at.column)])) *
                              double(gcv::widen(b[size_t(s * b_at.row + j * b_at.column)]));
          sum += term;
          size += std::abs(term);
        }
        if (!(std::abs(double(c[size_t(i * (n + 2) + j)]) - sum) <= unit * size)) return "a wrong sum";
      }
      for (int64_t j = n; j < n + 2; ++j)
        if (c[size_t(i * (n + 2) + j)] != T(77)) return "a write beside the result";
    }
    return nullptr;
  }
};

template <class Element>
void check(const char* where, int64_t m, int64_t n, int64_t k, Order a = Order::rows_dense,
           Order b = Order::rows_dense) {
  const Problem<Element> problem(m, n, k, a, b);
  const auto once = problem.product(1);
  const char* fault = problem.fault(once);
  if (fault == nullptr && problem.product(2) != once) fault = "other bits in two blocks";
  if (fault == nullptr && problem.product(5) != once) fault = "other bits in five blocks";
  if (fault == nullptr) return;
  ++failures;
  std::printf("FAILED: %s, dtype %d, %lld x %lld x %lld, orders %d and %d: %s\n", where,
              int(Of<Element>::dtype), static_cast<long long>(m), static_cast<long long>(n),
              static_cast<long long>(k), int(a), int(b), fault);
}

template <class Element>
void check_all(const char* where) {
  for (int64_t m = 1; m <= 26; ++m) check<Element>(where, m, 3 * m, 2 * m + 1);
  for (Order a : {Order::rows_dense, Order::columns_dense, Order::spread}) {
    for (Order b : {Order::rows_dense, Order::columns_dense, Order::spread}) {
      check<Element>(where, 37, 69, 35, a, b);
      check<Element>(where, 130, 64, 32, a, b);   // panels are packed
      check<Element>(where, 20, 200, 33, a, b);   // rows are packed
      check<Element>(where, 15, 33, 1100, a, b);  // in stretches
    }
  }
  check<Element>(where, 45, 1050, 40);  // in several blocks of columns
  for (int64_t size : {0, 1}) {
    check<Element>(where, size, 5, 7);
    check<Element>(where, 5, size, 7);
    check<Element>(where, 5, 7, size);
  }
}

// Segments of a tile in any order, that overlap, into a tile that is there already.
template <class T>
void check_segments(const char* where) {
  const gcv::GemmSegment list[] = {{7, 64, 5}, {2, 0, 1}, {6, 128, 9}};
  constexpr int64_t a_row = 16, b_row = 40, c_row = 35;
  const auto a = filled<T>({a_row, 1}, 4, 15, 1), b = filled<T>({b_row, 1}, 13, 32, 2);
  for (int vectors : {1, 2}) {
    for (int rows = 1; rows <= 4; ++rows) {
      std::vector<T> c(size_t(4 * c_row), T(1));
      gcv::gemm_tile(
          {{a.data(), a_row, 1}, b.data(), b_row, {list, 3}, c.data(), c_row, rows, vectors, true});
      for (int64_t i = 0; i < rows; ++i) {
        T sum = 1;
        for (const gcv::GemmSegment& s : list)
          for (int64_t k = 0; k < s.k; ++k)
            sum += a[size_t(i * a_row + s.a + k)] * b[size_t(s.b + k * b_row)];
        if (std::abs(c[size_t(i * c_row)] - sum) <= T(1e-5) * std::abs(sum)) continue;
        ++failures;
        std::printf("FAILED: %s, segments, %d rows, %d vectors\n", where, rows, vectors);
      }
    }
  }
}

void check_pair_segments(const char* where) {
  const gcv::GemmSegment list[] = {{32, 0, 32}, {3, 2048, 64}};
  constexpr int64_t a_row = 71, c_row = 33;
  const auto a = filled<gcv::BFloat16>({a_row, 1}, 32, 70, 1), b = filled<gcv::BFloat16>({64, 1}, 64, 64, 2);
  const gcv::GemmPairs multiply;  // of tiles of many sizes, one after the other
  for (int rows = 1; rows <= gcv::kPairRows; ++rows) {
    for (bool add : {false, true}) {
      std::vector<float> c(size_t(31 * c_row + 32), 2.0f);
      multiply({a.data(), a_row, b.data(), {list, 2}, c.data(), c_row, rows, add});
      bool right = true;
      for (int64_t i = 0; i < 32; ++i) {
        for (int64_t j = 0; j < 32; ++j) {
          double sum = add || i >= rows ? 2 : 0;
          for (const gcv::GemmSegment& s : list) {
            for (int64_t k = 0; k < s.k && i < rows; ++k)
              sum += double(gcv::widen(a[size_t(i * a_row + s.a + k)])) *
                     double(gcv::widen(b[size_t(s.b + k / 2 * 64 + 2 * j + k % 2)]));
          }
          right = right && std::abs(double(c[size_t(i * c_row + j)]) - sum) <= 1e-3;
        }
      }
      if (right) continue;
      ++failures;
      std::printf("FAILED: %s, segments of pairs, %d rows, add %d\n", where, rows, add);
    }
  }
}

}  // namespace

int main() {
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    gcv::set_pair_unit(gcv::PairUnit::none);
    check_all<float>(gcv::isa_name(isa));
    check_all<double>(gcv::isa_name(isa));
    check_all<gcv::Half>(gcv::isa_name(isa));
    check_all<gcv::BFloat16>(gcv::isa_name(isa));
    check_segments<float>(gcv::isa_name(isa));
    check_segments<double>(gcv::isa_name(isa));
  }
  for (gcv::PairUnit unit : {gcv::PairUnit::avx512_bf16, gcv::PairUnit::amx}) {
    if (!gcv::set_isa(gcv::Isa::avx512) || !gcv::set_pair_unit(unit)) {
      std::printf("skipped %s: this processor or system lacks it\n", gcv::pair_unit_name(unit));
      continue;
    }
    check_all<gcv::BFloat16>(gcv::pair_unit_name(unit));
    check_pair_segments(gcv::pair_unit_name(unit));
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
