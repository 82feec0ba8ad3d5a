// The launchers of csrc/boxes/coding_cuda.h, executed by the emulator, against the row maths called one row
// at a time. Buffers have exactly the documented sizes.
#include <cstring>
#include <string>
#include <vector>

#include "boxes/coding_cuda.h"
#include "boxes/coding_rows.h"
#include "boxes/convert_rows.h"
#include "boxes_coding_naive.h"
#include "emulated_cases.h"
#include "emulator/sanitizers.h"

namespace gcv {
namespace {

template <class E>
constexpr DType kType = DType::f32;
template <>
constexpr DType kType<double> = DType::f64;
template <>
constexpr DType kType<Half> = DType::f16;
template <>
constexpr DType kType<BFloat16> = DType::bf16;

template <class E>
using ComputeOf = typename Compute<E>::type;

// Numbers that are exact in every type, in rows `gap` further apart than they are wide.
template <class E>
struct Numbers {
  Numbers(int64_t rows, int width, int gap, unsigned seed) : stride(width + gap) {
    RowMaker make(seed);
    memory.resize(rows == 0 ? 0 : (rows - 1) * stride + width);
    for (E& x : memory) narrow(ComputeOf<E>(std::floor(make.number(1, 100))), x);
  }
  BoxRows rows() const { return {memory.data(), stride}; }
  const E* row(int64_t i) const { return memory.data() + i * stride; }
  std::vector<E> memory;
  int64_t stride;
};

const CoderWeights weights = {10, 10, 5, 5};
constexpr double kClip = 1.5;

// Results one row at a time; arguments may be repeated.
template <class Maths, class E>
std::vector<E> by_rows(const typename Maths::Constants& constants, std::vector<const Numbers<E>*> in,
                       const std::vector<int>& widths, int64_t n, int first, int count, int64_t repeat = 1) {
  std::vector<E> results;
  for (int64_t i = 0; i < n; ++i) {
    ComputeOf<E> row[Maths::In::kTotal], out[Maths::Out::kTotal];
    int at = 0;
    for (size_t a = 0; a < in.size(); ++a) {
      const bool last = a + 1 == in.size();
      for (int k = 0; k < widths[a]; ++k) row[at++] = widen(in[a]->row(last ? i / repeat : i)[k]);
    }
    Maths::apply(constants, row, out);
    for (int k = first; k < first + count; ++k) {
      results.emplace_back();
      narrow(out[k], results.back());
    }
  }
  return results;
}

template <class E>
void compare(const std::vector<E>& got, const std::vector<E>& expected, const std::string& what) {
  const bool equal = got.size() == expected.size() &&
                     (got.empty() || std::memcmp(got.data(), expected.data(), got.size() * sizeof(E)) == 0);
  require(equal, what);
}

template <class E>
void check_coding(int64_t n, int gap) {
  using T = ComputeOf<E>;
  const auto constants = coder_constants<T>(weights, kClip);
  const Numbers<E> a(n, 4, gap, 1), b(n, 4, gap, 2), g(n, 4, gap, 3);
  std::vector<E> out(4 * n), second(4 * n);
  check_launch(box_encode_cuda({a.rows(), b.rows(), out.data(), n, kType<E>, weights}, nullptr));
  compare(out, by_rows<EncodeRow<T>, E>(constants, {&a, &b}, {4, 4}, n, 0, 4), "box_encode");
  check_launch(box_encode_backward_cuda(
      {g.rows(), a.rows(), b.rows(), out.data(), second.data(), n, kType<E>, weights}, nullptr));
  using Backward = EncodeBackwardRow<T>;
  compare(out, by_rows<Backward, E>(constants, {&g, &a, &b}, {4, 4, 4}, n, 0, 4), "box_encode_backward");
  compare(second, by_rows<Backward, E>(constants, {&g, &a, &b}, {4, 4, 4}, n, 4, 4), "gradient of proposals");

  const auto size = image_size<E>(40, 50);
  check_launch(clip_boxes_cuda({a.rows(), out.data(), n, kType<E>, 40, 50}, nullptr));
  compare(out, by_rows<ClipRow<T>, E>(size, {&a}, {4}, n, 0, 4), "clip_boxes");
  check_launch(clip_boxes_backward_cuda({g.rows(), a.rows(), out.data(), n, kType<E>, 40, 50}, nullptr));
  compare(out, by_rows<ClipBackwardRow<T>, E>(size, {&g, &a}, {4, 4}, n, 0, 4), "clip_boxes_backward");
}

template <class E>
void check_decoding(int64_t n, int64_t classes, int gap) {
  using T = ComputeOf<E>;
  using Backward = DecodeBackwardRow<T>;
  const auto constants = coder_constants<T>(weights, kClip);
  const int64_t rows = n * classes;
  const Numbers<E> d(rows, 4, gap, 1), a(n, 4, gap, 2), g(rows, 4, gap, 3);
  std::vector<E> out(4 * rows), sums(4 * n);
  check_launch(
      box_decode_cuda({d.rows(), a.rows(), out.data(), n, classes, kType<E>, weights, kClip}, nullptr));
  compare(out, by_rows<DecodeRow<T>, E>(constants, {&d, &a}, {4, 4}, rows, 0, 4, classes), "box_decode");
  check_launch(box_decode_backward_cuda(
      {g.rows(), d.rows(), a.rows(), out.data(), sums.data(), n, classes, kType<E>, weights, kClip},
      nullptr));
  const auto each = [&](int first) {
    return by_rows<Backward, E>(constants, {&g, &d, &a}, {4, 4, 4}, rows, first, 4, classes);
  };
  compare(out, each(0), "box_decode_backward");
  const auto grads = each(4);
  std::vector<double> expected(4 * n), size(4 * n);
  for (int64_t i = 0; i < 4 * rows; ++i) {
    expected[i / (4 * classes) * 4 + i % 4] += double(widen(grads[i]));
    size[i / (4 * classes) * 4 + i % 4] += std::abs(double(widen(grads[i])));
  }
  const double tolerance = sizeof(E) == 2 ? 1e-2 : sizeof(E) == 4 ? 1e-6 : 1e-14;
  for (int64_t i = 0; i < 4 * n; ++i) {
    require(std::abs(double(widen(sums[i])) - expected[i]) <= tolerance * size[i], "sum over classes");
  }
}

template <class Step, class E>
void check_conversion(BoxFormat from, BoxFormat to, int64_t n, int gap) {
  using T = ComputeOf<E>;
  const int width = Step::kFrom, result = Step::kTo;
  const Numbers<E> boxes(n, width, gap, 1), g(n, result, gap, 2);
  std::vector<E> out(result * n), back(width * n);
  check_launch(box_convert_cuda({boxes.rows(), out.data(), n, kType<E>, from, to}, nullptr));
  compare(out, by_rows<ConvertRow<T, Step>, E>({}, {&boxes}, {width}, n, 0, result), "box_convert");
  check_launch(
      box_convert_backward_cuda({g.rows(), boxes.rows(), back.data(), n, kType<E>, from, to}, nullptr));
  compare(back, by_rows<ConvertBackwardRow<T, Step>, E>({}, {&g, &boxes}, {result, width}, n, 0, width),
          "box_convert_backward");
}

template <class E>
void check_conversions(int64_t n, int gap) {
  int conversions = 0;
  for (int from = 0; from < 6; ++from) {
    for (int to = 0; to < 6; ++to) {
      with_conversion<ComputeOf<E>>(BoxFormat(from), BoxFormat(to), 0, [&](auto step) {
        check_conversion<decltype(step), E>(BoxFormat(from), BoxFormat(to), n, gap);
        return ++conversions;
      });
    }
  }
  require(conversions == 12, "all pairs of formats");
}

template <class E>
void check_small_boxes(int64_t n, int gap) {
  const Numbers<E> boxes(n, 4, gap, 9);
  for (double min_size : {-1000.0, 20.0, 1000.0}) {
    const SmallBoxesParams p = {boxes.rows(), n, kType<E>, min_size};
    std::vector<int64_t> expected, indices(n, -1);
    for (int64_t i = 0; i < n; ++i) {
      const E* b = boxes.row(i);
      if (widen(b[2]) - widen(b[0]) >= min_size && widen(b[3]) - widen(b[1]) >= min_size)
        expected.push_back(i);
    }
    std::vector<char> workspace(remove_small_boxes_cuda_workspace_bytes(p));
    int64_t count = -1;
    check_launch(remove_small_boxes_cuda(p, workspace.data(), indices.data(), &count, nullptr));
    require(count == int64_t(expected.size()), "count of large boxes");
    indices.resize(count);
    require(indices == expected, "remove_small_boxes");
  }
}

void check_all_coding() {
  for (int64_t n : {0, 1, 256, 257}) check_coding<float>(n, 0);
  check_coding<double>(70, 0);
  check_coding<Half>(70, 0);
  check_coding<BFloat16>(70, 0);
  check_coding<float>(70, 3);
  check_coding<double>(70, 4);
}

void check_all_decoding() {
  for (int64_t classes : {0, 1, 2, 5, 40}) check_decoding<float>(9, classes, 0);
  check_decoding<double>(70, 3, 0);
  check_decoding<Half>(70, 3, 0);
  check_decoding<BFloat16>(70, 3, 0);
  check_decoding<float>(300, 1, 1);
  check_decoding<float>(0, 3, 0);
}

void check_all_conversions() {
  check_conversions<float>(20, 3);
  check_conversions<float>(0, 0);
  if (emulator::kThreadSanitizer) return;  // slow there, and rows share nothing in any type
  check_conversions<float>(258, 0);
  check_conversions<double>(20, 0);
  check_conversions<Half>(20, 0);
  check_conversions<BFloat16>(20, 0);
}

// More than one block of counts, and more than one round of their scan.
void check_all_small_boxes() {
  for (int64_t n : {257, 1000}) check_small_boxes<float>(n, 0);
  if (emulator::kThreadSanitizer) return;  // it cannot tell apart the threads of the last one
  for (int64_t n : {0, 1, 255, 256}) check_small_boxes<float>(n, 0);
  check_small_boxes<double>(300, 1);
  check_small_boxes<Half>(300, 0);
  check_small_boxes<BFloat16>(300, 0);
  check_small_boxes<float>(256 * 1024 + 300, 0);
}

const EmulatedCases kCases = {
    {"coding", check_all_coding},
    {"decoding", check_all_decoding},
    {"conversions", check_all_conversions},
    {"small_boxes", check_all_small_boxes},
};

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) { return gcv::run_cases(gcv::kCases, argc, argv); }
