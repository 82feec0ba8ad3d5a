// Drives encoding, decoding, clipping, conversion and the removal of small boxes at every instruction set
// with exactly sized memory, for the sanitizers, against plain formulas in double and gradients by
// differences.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <thread>

#include "boxes/coding.h"
#include "boxes/convert.h"
#include "boxes_coding_naive.h"

namespace gcv {
namespace {

int failures = 0;

void expect(bool holds, const std::string& what, int64_t n) {
  if (holds) return;
  if (++failures < 30) {
    std::printf("FAILED: %s, %s, n = %lld\n", what.c_str(), isa_name(active_isa()), (long long)n);
  }
}

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr DType value = DType::f32;
  static constexpr double kTolerance = 2e-6;
};
template <>
struct TypeOf<double> {
  static constexpr DType value = DType::f64;
  static constexpr double kTolerance = 1e-13;
};
template <>
struct TypeOf<Half> {
  static constexpr DType value = DType::f16;
};
template <>
struct TypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};

// A row-wise operator: results of n * repeat rows, the last argument having n and every other n * repeat.
struct RowOp {
  std::string name;
  std::vector<int> in, out;
  RowFunction naive;
  std::function<Row(RowMaker&)> make;  // rows of all arguments
  std::function<void(const std::vector<BoxRows>&, const std::vector<void*>&, int64_t, DType, int64_t,
                     int64_t)>
      run;
  bool by_differences;
};

NaiveCoder coder;
const CoderWeights weights = {10, 10, 5, 5};

Row joined(std::vector<Row> rows) {
  Row all;
  for (const Row& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

// Away from where the growth is clipped, which differences would straddle.
Row deltas_of(RowMaker& make) {
  Row deltas = make.numbers(4);
  for (int k = 2; k < 4; ++k)
    deltas[k] = make.number(0, 1) < 0.3 ? make.number(7.6, 9) : make.number(-9, 7.4);
  return deltas;
}

std::vector<RowOp> coding_ops() {
  const auto encode = [](const Row& r) { return coder.encode(r); };
  const auto decode = [](const Row& r) { return coder.decode(r); };
  const auto clip = [](const Row& r) { return naive_clip(r, 40, 50); };
  const auto two_boxes = [](RowMaker& m) { return joined({m.box("xyxy"), m.box("xyxy")}); };
  return {
      {"box_encode",
       {4, 4},
       {4},
       encode,
       two_boxes,
       [](auto& in, auto& out, int64_t n, DType t, int64_t begin, int64_t end) {
         box_encode_cpu({in[0], in[1], out[0], n, t, weights}, begin, end);
       },
       false},
      {"box_encode_backward",
       {4, 4, 4},
       {4, 4},
       gradient_of(encode, 4),
       [=](RowMaker& m) { return joined({m.numbers(4), two_boxes(m)}); },
       [](auto& in, auto& out, int64_t n, DType t, int64_t begin, int64_t end) {
         box_encode_backward_cpu({in[0], in[1], in[2], out[0], out[1], n, t, weights}, begin, end);
       },
       true},
      {"box_decode",
       {4, 4},
       {4},
       decode,
       [](RowMaker& m) { return joined({deltas_of(m), m.box("xyxy")}); },
       [](auto& in, auto& out, int64_t n, DType t, int64_t begin, int64_t end) {
         box_decode_cpu({in[0], in[1], out[0], n, 1, t, weights, coder.clip}, begin, end);
       },
       false},
      {"box_decode_backward",
       {4, 4, 4},
       {4, 4},
       gradient_of(decode, 4),
       [](RowMaker& m) { return joined({m.numbers(4), deltas_of(m), m.box("xyxy")}); },
       [](auto& in, auto& out, int64_t n, DType t, int64_t begin, int64_t end) {
         box_decode_backward_cpu({in[0], in[1], in[2], out[0], out[1], n, 1, t, weights, coder.clip}, begin,
                                 end);
       },
       true},
      {"clip_boxes",
       {4},
       {4},
       clip,
       [](RowMaker& m) { return m.box("xyxy"); },
       [](auto& in, auto& out, int64_t n, DType t, int64_t begin, int64_t end) {
         clip_boxes_cpu({in[0], out[0], n, t, 40, 50}, begin, end);
       },
       false},
      {"clip_boxes_backward",
       {4, 4},
       {4},
       gradient_of(clip, 4),
       [](RowMaker& m) { return joined({m.numbers(4), m.box("xyxy")}); },
       [](auto& in, auto& out, int64_t n, DType t, int64_t begin, int64_t end) {
         clip_boxes_backward_cpu({in[0], in[1], out[0], n, t, 40, 50}, begin, end);
       },
       true},
  };
}

const std::map<std::string, BoxFormat> kFormats = {
    {"xyxy", BoxFormat::xyxy},   {"xywh", BoxFormat::xywh},       {"cxcywh", BoxFormat::cxcywh},
    {"xywhr", BoxFormat::xywhr}, {"cxcywhr", BoxFormat::cxcywhr}, {"xyxyxyxy", BoxFormat::xyxyxyxy}};

std::vector<RowOp> conversions() {
  std::vector<RowOp> ops;
  for (const auto& [from_name, from] : kFormats) {
    for (const auto& [to_name, to] : kFormats) {
      if (from == to || is_rotated(from) != is_rotated(to)) continue;
      const BoxFormat f = from, t = to;
      const std::string f_name = from_name, t_name = to_name;
      const int width = format_width(f), result = format_width(t);
      const RowFunction convert = [=](const Row& r) { return naive_convert(r, f_name, t_name); };
      ops.push_back({f_name + " to " + t_name,
                     {width},
                     {result},
                     convert,
                     [=](RowMaker& m) { return m.box(f_name); },
                     [=](auto& in, auto& out, int64_t n, DType type, int64_t begin, int64_t end) {
                       box_convert_cpu({in[0], out[0], n, type, f, t}, begin, end);
                     },
                     false});
      ops.push_back({f_name + " to " + t_name + " backward",
                     {result, width},
                     {width},
                     gradient_of(convert, result),
                     [=](RowMaker& m) { return joined({m.numbers(result), m.box(f_name)}); },
                     [=](auto& in, auto& out, int64_t n, DType type, int64_t begin, int64_t end) {
                       box_convert_backward_cpu({in[0], in[1], out[0], n, type, f, t}, begin, end);
                     },
                     true});
    }
  }
  return ops;
}

// Rows `gap` numbers further apart than they are wide; the memory ends with the last row.
template <class T>
std::vector<T> laid_out(const std::vector<Row>& rows, int offset, int width, int gap) {
  std::vector<T> memory(rows.empty() ? 0 : (rows.size() - 1) * (width + gap) + width);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (int k = 0; k < width; ++k) {
      const auto number = typename Compute<T>::type(rows[i][offset + k]);
      narrow(number, memory[i * (width + gap) + k]);
    }
  }
  return memory;
}

// Results of `rows`, one vector each, computed by two threads.
template <class T>
std::vector<std::vector<T>> run(const RowOp& op, const std::vector<Row>& rows, int gap) {
  const auto n = int64_t(rows.size());
  std::vector<std::vector<T>> arguments, results;
  std::vector<BoxRows> in;
  std::vector<void*> out;
  int offset = 0;
  for (int width : op.in) {
    arguments.push_back(laid_out<T>(rows, offset, width, gap));
    in.push_back({arguments.back().data(), width + gap});
    offset += width;
  }
  for (int width : op.out) results.emplace_back(n * width);
  for (auto& result : results) out.push_back(result.data());
  std::thread other([&] { op.run(in, out, n, TypeOf<T>::value, n / 3, n); });
  op.run(in, out, n, TypeOf<T>::value, 0, n / 3);
  other.join();
  return results;
}

template <class T>
void compare_with_naive(const RowOp& op, const std::vector<Row>& rows, int gap) {
  const auto results = run<T>(op, rows, gap);
  const double tolerance =
      op.by_differences ? std::max(1e-7, 4 * TypeOf<T>::kTolerance) : TypeOf<T>::kTolerance;
  for (size_t i = 0; i < rows.size(); ++i) {
    Row rounded = rows[i];
    for (double& x : rounded) x = double(T(x));
    const Row expected = op.naive(rounded);
    size_t k = 0;
    for (size_t r = 0; r < results.size(); ++r) {
      for (int j = 0; j < op.out[r]; ++j, ++k) {
        const double error = std::abs(double(results[r][i * op.out[r] + j]) - expected[k]);
        expect(error <= tolerance * (100 + std::abs(expected[k])), op.name, int64_t(rows.size()));
      }
    }
  }
}

// Two bytes per number: as float computes it, rounded once.
template <class T>
void compare_with_float(const RowOp& op, const std::vector<Row>& rows) {
  std::vector<Row> rounded = rows;
  for (Row& row : rounded) {
    for (double& x : row) {
      T element;
      narrow(float(x), element);
      x = double(widen(element));
    }
  }
  const auto results = run<T>(op, rows, 0);
  const auto wide = run<float>(op, rounded, 0);
  for (size_t r = 0; r < results.size(); ++r) {
    for (size_t i = 0; i < results[r].size(); ++i) {
      T expected;
      narrow(wide[r][i], expected);
      expect(results[r][i].bits == expected.bits, op.name + " in two bytes", int64_t(rows.size()));
    }
  }
}

// Bits of the first instruction set that ran, by operator and size.
std::map<std::string, std::vector<std::vector<float>>> first_results;

void compare_with_other_isas(const RowOp& op, const std::vector<Row>& rows) {
  const auto results = run<float>(op, rows, 0);
  const auto& first = first_results.emplace(op.name + std::to_string(rows.size()), results).first->second;
  for (size_t r = 0; r < results.size(); ++r) {
    const bool equal = results[r].empty() || std::memcmp(results[r].data(), first[r].data(),
                                                         results[r].size() * sizeof(float)) == 0;
    expect(equal, op.name + " with the bits of every instruction set", int64_t(rows.size()));
  }
}

void check_row_op(const RowOp& op, int64_t n) {
  RowMaker make(unsigned(n) + 1);
  std::vector<Row> rows;
  for (int64_t i = 0; i < n; ++i) rows.push_back(op.make(make));
  for (int gap : {0, 3}) {
    compare_with_naive<float>(op, rows, gap);
    compare_with_naive<double>(op, rows, gap);
  }
  compare_with_float<Half>(op, rows);
  compare_with_float<BFloat16>(op, rows);
  compare_with_other_isas(op, rows);
}

// Several classes share an anchor: the same as repeating it, and the sum of its gradients.
void check_classes(int64_t n, int64_t classes) {
  RowMaker make(7);
  std::vector<double> deltas, grads, anchors, repeated;
  for (int64_t i = 0; i < n; ++i) {
    const Row anchor = make.box("xyxy");
    anchors.insert(anchors.end(), anchor.begin(), anchor.end());
    for (int64_t c = 0; c < classes; ++c) {
      for (double x : deltas_of(make)) deltas.push_back(x);
      for (double x : make.numbers(4)) grads.push_back(x);
      repeated.insert(repeated.end(), anchor.begin(), anchor.end());
    }
  }
  const int64_t rows = n * classes, numbers = 4 * rows;
  std::vector<double> boxes(numbers), boxes_alone(numbers), grad_deltas(numbers), grad_deltas_alone(numbers),
      grad_anchors(4 * n, -1), grads_alone(numbers), sums(4 * n);
  const BoxRows d{deltas.data(), 4}, g{grads.data(), 4}, a{anchors.data(), 4}, r{repeated.data(), 4};
  box_decode_cpu({d, a, boxes.data(), n, classes, DType::f64, weights, coder.clip}, 0, rows / 2);
  box_decode_cpu({d, a, boxes.data(), n, classes, DType::f64, weights, coder.clip}, rows / 2, rows);
  box_decode_cpu({d, r, boxes_alone.data(), rows, 1, DType::f64, weights, coder.clip}, 0, rows);
  expect(boxes == boxes_alone, "box_decode of classes", n);
  const BoxDecodeBackwardParams p = {g,       d,          a,       grad_deltas.data(), grad_anchors.data(), n,
                                     classes, DType::f64, weights, coder.clip};
  box_decode_backward_cpu(p, 0, n / 2);
  box_decode_backward_cpu(p, n / 2, n);
  box_decode_backward_cpu(
      {g, d, r, grad_deltas_alone.data(), grads_alone.data(), rows, 1, DType::f64, weights, coder.clip}, 0,
      rows);
  for (int64_t i = 0; i < numbers; ++i) sums[i / (4 * classes) * 4 + i % 4] += grads_alone[i];
  expect(grad_deltas == grad_deltas_alone, "box_decode_backward of classes", n);
  expect(grad_anchors == sums, "sum over the classes of an anchor", n);
}

template <class T>
void check_small_boxes(int64_t n) {
  RowMaker make(unsigned(n) + 5);
  std::vector<Row> rows;
  for (int64_t i = 0; i < n; ++i) {
    Row box = make.box("xyxy");
    for (double& x : box) x = std::floor(x);  // so that sides equal the least size
    if (i % 11 == 3) box[i % 4] = NAN;
    rows.push_back(box);
  }
  for (double min_size : {-100.0, 30.0, 1000.0}) {
    const auto memory = laid_out<T>(rows, 0, 4, 1);
    const SmallBoxesParams p = {{memory.data(), 5}, n, TypeOf<T>::value, min_size};
    std::vector<int64_t> expected;
    for (int64_t i = 0; i < n; ++i) {
      if (rows[i][2] - rows[i][0] >= min_size && rows[i][3] - rows[i][1] >= min_size) expected.push_back(i);
    }
    std::vector<uint64_t> flags(p.words());
    const int64_t half = p.words() / 2;
    const int64_t first = flag_large_boxes_cpu(p, flags.data(), 0, half);
    const int64_t second = flag_large_boxes_cpu(p, flags.data(), half, p.words());
    expect(first + second == int64_t(expected.size()), "count of large boxes", n);
    std::vector<int64_t> indices(expected.size());
    list_large_boxes_cpu(p, flags.data(), 0, half, indices.data());
    list_large_boxes_cpu(p, flags.data(), half, p.words(), indices.data() + first);
    expect(indices == expected, "remove_small_boxes", n);
  }
}

// The remainder after whole turns counts, however large the angle.
void check_large_angles() {
  for (float angle : {1e6f, -3e8f, 1e12f, 7e20f, 1e30f, 3e38f}) {
    const std::vector<float> box = {1, 2, 30, 40, angle};
    std::vector<float> corners(8);
    box_convert_cpu({{box.data(), 5}, corners.data(), 1, DType::f32, BoxFormat::xywhr, BoxFormat::xyxyxyxy},
                    0, 1);
    const Row expected = naive_convert({1, 2, 30, 40, std::fmod(double(angle), 360)}, "xywhr", "xyxyxyxy");
    for (int k = 0; k < 8; ++k) expect(std::abs(corners[k] - expected[k]) < 1e-4, "a large angle", 1);
  }
}

void check_all() {
  for (int64_t n : {0, 1, 5, 64, 131}) {
    for (const RowOp& op : coding_ops()) check_row_op(op, n);
    for (const RowOp& op : conversions()) check_row_op(op, n);
    check_small_boxes<float>(n);
    check_small_boxes<double>(n);
    check_small_boxes<Half>(n);
    check_small_boxes<BFloat16>(n);
  }
  check_large_angles();
  for (int64_t classes : {0, 2, 5, 64, 91}) check_classes(7, classes);
}

}  // namespace
}  // namespace gcv

int main() {
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    gcv::check_all();
  }
  std::printf("%s\n", gcv::failures ? "some checks failed" : "all checks passed");
  return gcv::failures ? 1 : 0;
}
