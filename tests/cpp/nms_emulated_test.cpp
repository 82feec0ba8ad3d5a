// The launchers of csrc/nms/nms_cuda.h, executed by the emulator, against plain loops. Buffers have exactly
// the documented sizes, so that AddressSanitizer sees a step beyond them.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/suppress.h"
#include "emulated_cases.h"
#include "nms/nms_cuda.h"
#include "nms_naive.h"

namespace gcv {
namespace {

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr DType value = DType::f32;
  static float from(double x) { return float(x); }
};
template <>
struct TypeOf<double> {
  static constexpr DType value = DType::f64;
  static double from(double x) { return x; }
};
template <>
struct TypeOf<Half> {
  static constexpr DType value = DType::f16;
  static Half from(double x) { return {__half_raw(__float2half_rn(float(x))).x}; }
};
template <>
struct TypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
  static BFloat16 from(double x) { return {__nv_bfloat16_raw(__float2bfloat16_rn(float(x))).x}; }
};

struct Workspace256 {
  explicit Workspace256(size_t bytes) {
    void* memory = nullptr;
    require(posix_memalign(&memory, 256, bytes) == 0, "out of memory");
    std::memset(memory, 0xa5, bytes);
    data.reset(memory, std::free);
  }
  std::shared_ptr<void> data;
};

// In memory as a caller may have it: each element `stride` apart, the last one at the very end.
template <class E>
std::vector<E> spread(const std::vector<double>& values, int64_t stride = 1) {
  std::vector<E> out((int64_t(values.size()) - 1) * stride + 1);
  for (size_t i = 0; i < values.size(); ++i) out[i * stride] = TypeOf<E>::from(values[i]);
  return out;
}

template <class E>
std::vector<int64_t> run_nms(const Problem& problem, int chunk_rows, int64_t stride = 1) {
  const auto boxes = spread<E>(problem.boxes, stride);
  const auto order = sorted_order(problem.scores);
  std::vector<int64_t> keep(problem.n(), -1);
  int64_t count = -1;
  NmsCudaParams p{};
  p.boxes = boxes.data();
  p.box_stride = 4 * stride;
  p.coord_stride = stride;
  p.order = order.data();
  p.class_ids = problem.classes.empty() ? nullptr : problem.classes.data();
  p.class_stride = 1;
  p.n = problem.n();
  p.dtype = TypeOf<E>::value;
  p.iou_threshold = problem.iou_threshold;
  p.chunk_rows = chunk_rows;
  const Workspace256 workspace(nms_cuda_workspace_bytes(p));
  p.workspace = workspace.data.get();
  p.keep = keep.data();
  p.count = &count;
  check_launch(nms_cuda(p, nullptr));
  keep.resize(count);
  return keep;
}

template <class E, class T>
void compare_nms(const Problem& problem, int chunk_rows, int64_t stride = 1) {
  require(run_nms<E>(problem, chunk_rows, stride) == naive_nms<T>(problem),
          "nms of " + std::to_string(problem.n()) + " boxes in chunks of " + std::to_string(chunk_rows));
}

void check_sizes() {
  for (int n : {1, 63, 64, 65, 129}) compare_nms<float, float>(grid_problem(n, n), 64);
  compare_nms<float, float>(grid_problem(200, 200), 128);
  compare_nms<float, float>(grid_problem(150, 1), kNmsChunkRows);
}

void check_types() {
  compare_nms<double, double>(grid_problem(100, 2), 64);
  compare_nms<Half, float>(grid_problem(100, 3), 64);
  compare_nms<BFloat16, float>(grid_problem(100, 4), 64);
  compare_nms<float, float>(grid_problem(100, 5), 64, 3);
  compare_nms<double, double>(grid_problem(70, 6), 64, 2);
}

void check_classes() {
  compare_nms<float, float>(grid_problem(140, 7, 3), 64);
  compare_nms<double, double>(grid_problem(140, 8, 5), 128);
}

void check_thresholds() {
  Problem p = grid_problem(70, 9);
  for (double threshold : {-0.5, 0.0, 1.0 / 3, 1.0, 2.0, double(NAN)}) {
    p.iou_threshold = threshold;
    compare_nms<float, float>(p, 64);
  }
}

void check_chain() {
  const Problem p = chain_problem(150);
  const auto kept = run_nms<float>(p, 64);
  require(kept.size() == 75 && kept == naive_nms<float>(p), "a chain of overlaps");
}

// Kept boxes of different blocks remove neighbouring later boxes, whose flags lie in one word.
void check_shared_words() {
  Problem p;
  for (int i = 0; i < 384; ++i) {
    const double x = 10.0 * (i < 320 ? i : (i - 320) * 5);
    p.boxes.insert(p.boxes.end(), {x, 0, x + 8, 8});
    p.scores.push_back(1 - i / 1024.0);
  }
  require(run_nms<float>(p, 320).size() == 320, "every later box repeats an earlier one");
}

void check_nan() {
  Problem p = grid_problem(100, 10);
  for (int i = 0; i < 100; i += 7) p.boxes[4 * i + i % 4] = NAN;
  for (double threshold : {0.3, -1.0}) {
    p.iou_threshold = threshold;
    const auto kept = run_nms<float>(p, 64);
    for (int64_t i = 0; i < 100; i += 7) {
      require(std::count(kept.begin(), kept.end(), i) == 1, "a box with a NaN coordinate is always kept");
    }
  }
}

Selection run_soft_nms(const Problem& problem, SoftNmsMethod method, double score_threshold,
                       int boxes_per_block) {
  const auto boxes = spread<float>(problem.boxes);
  const auto scores = spread<float>(problem.scores, 2);
  std::vector<int64_t> keep(problem.n(), -1);
  std::vector<float> kept_scores(problem.n(), -1);
  int64_t count = -1;
  SoftNmsCudaParams p{};
  p.boxes = boxes.data();
  p.box_stride = 4;
  p.coord_stride = 1;
  p.scores = scores.data();
  p.score_stride = 2;
  p.n = problem.n();
  p.method = method;
  p.iou_threshold = problem.iou_threshold;
  p.sigma = 0.5;
  p.score_threshold = score_threshold;
  p.boxes_per_block = boxes_per_block;
  const Workspace256 workspace(soft_nms_cuda_workspace_bytes(p));
  p.workspace = workspace.data.get();
  p.keep = keep.data();
  p.kept_scores = kept_scores.data();
  p.count = &count;
  check_launch(soft_nms_cuda(p, nullptr));
  return {{keep.begin(), keep.begin() + count}, {kept_scores.begin(), kept_scores.begin() + count}};
}

void check_soft_nms() {
  Problem p = grid_problem(90, 11);
  p.iou_threshold = 0.25;  // attained by many pairs
  for (double score_threshold : {0.05, -0.25}) {
    const Selection expected = naive_soft_nms(p, score_threshold);
    for (int boxes_per_block : {kSoftNmsBoxesPerBlock, 32}) {
      const Selection got = run_soft_nms(p, SoftNmsMethod::linear, score_threshold, boxes_per_block);
      require(got.indices == expected.indices && got.scores == expected.scores, "linear soft-NMS");
    }
  }
  const Selection alone = run_soft_nms(p, SoftNmsMethod::gaussian, 0.05, kSoftNmsBoxesPerBlock);
  const Selection together = run_soft_nms(p, SoftNmsMethod::gaussian, 0.05, 32);
  require(alone.indices == together.indices && alone.scores == together.scores, "one block or several");
}

struct Detections {
  std::vector<int64_t> indices;  // [images, max_total, 2]
  std::vector<float> scores;
  std::vector<int64_t> counts;
};

template <class T>
std::vector<int64_t> sort_rows(std::vector<T>& keys, int64_t length) {
  std::vector<int64_t> order;
  for (size_t first = 0; first < keys.size(); first += length) {
    const std::vector<double> row(keys.begin() + first, keys.begin() + first + length);
    for (int64_t i : sorted_order(row)) order.push_back(i);
    for (int64_t i = 0; i < length; ++i) keys[first + i] = T(row[order[first + i]]);
  }
  return order;
}

// Problems of one image share its boxes.
Detections run_multiclass(const std::vector<std::vector<Problem>>& images, double score_threshold,
                          int64_t max_per_class, int64_t max_total) {
  const int64_t batch = int64_t(images.size()), classes = int64_t(images[0].size()), n = images[0][0].n();
  std::vector<float> boxes, scores, keys(batch * classes * n);
  for (const auto& image : images) {
    boxes.insert(boxes.end(), image[0].boxes.begin(), image[0].boxes.end());
    for (const auto& problem : image)
      scores.insert(scores.end(), problem.scores.begin(), problem.scores.end());
  }
  check_launch(sort_keys_cuda(
      {scores.data(), batch, classes, n, classes * n, n, 1, DType::f32, true, score_threshold, keys.data()},
      nullptr));
  const auto order = sort_rows(keys, n);

  const int64_t slots = classes * max_per_class;
  std::vector<float> kept_keys(batch * slots);
  std::vector<int64_t> kept_boxes(batch * slots), kept_counts(batch * classes);
  MulticlassNmsCudaParams p{};
  p.boxes = boxes.data();
  p.image_stride = 4 * n;
  p.box_stride = 4;
  p.coord_stride = 1;
  p.sorted_keys = keys.data();
  p.order = order.data();
  p.batch = batch;
  p.classes = classes;
  p.n = n;
  p.iou_threshold = images[0][0].iou_threshold;
  p.max_per_class = max_per_class;
  const Workspace256 workspace(multiclass_nms_cuda_workspace_bytes(p));
  p.workspace = workspace.data.get();
  p.kept_keys = kept_keys.data();
  p.kept_boxes = kept_boxes.data();
  p.kept_counts = kept_counts.data();
  check_launch(multiclass_nms_cuda(p, nullptr));

  const auto slot_order = sort_rows(kept_keys, slots);
  Detections out{std::vector<int64_t>(batch * max_total * 2), std::vector<float>(batch * max_total),
                 std::vector<int64_t>(batch)};
  check_launch(multiclass_gather_cuda({scores.data(), classes * n, n, 1, slot_order.data(), kept_boxes.data(),
                                       kept_counts.data(), batch, classes, max_per_class, max_total,
                                       DType::f32, out.indices.data(), out.scores.data(), out.counts.data()},
                                      nullptr));
  return out;
}

void check_detections(const std::vector<Problem>& image, const Detections& got, int64_t b,
                      double score_threshold, int64_t max_per_class, int64_t max_total) {
  std::vector<std::array<int64_t, 2>> found;
  std::vector<double> scores;
  for (size_t c = 0; c < image.size(); ++c) {
    for (int64_t box : naive_nms<float>(image[c], score_threshold, size_t(max_per_class))) {
      found.push_back({int64_t(c), box});
      scores.push_back(image[c].scores[box]);
    }
  }
  const auto order = sorted_order(scores);
  require(got.counts[b] == std::min(max_total, int64_t(found.size())), "count of an image");
  for (int64_t i = 0; i < max_total; ++i) {
    const int64_t* pair = &got.indices[2 * (b * max_total + i)];
    const bool padding = i >= got.counts[b];
    require(pair[0] == (padding ? -1 : found[order[i]][0]), "class of a detection");
    require(pair[1] == (padding ? -1 : found[order[i]][1]), "box of a detection");
    require(got.scores[b * max_total + i] == (padding ? 0 : float(scores[order[i]])), "score of a detection");
  }
}

void check_multiclass() {
  std::vector<std::vector<Problem>> images(2, std::vector<Problem>(2));
  for (int b = 0; b < 2; ++b) {
    for (int c = 0; c < 2; ++c) {
      images[b][c] = grid_problem(70, 20 + 2 * b + c);
      images[b][c].boxes = images[b][0].boxes;
    }
  }
  for (auto [max_per_class, max_total] : {std::pair<int64_t, int64_t>{70, 150}, {7, 10}}) {
    const Detections got = run_multiclass(images, 0.125, max_per_class, max_total);
    for (int b = 0; b < 2; ++b) check_detections(images[b], got, b, 0.125, max_per_class, max_total);
  }
}

// One ulp on either side of an IoU that occurs, where a product alone would decide wrongly.
template <class T>
void check_suppresses(int pairs, double scale) {
  uint32_t state = 1;
  const auto next = [&state, scale] {
    state = state * 1664525u + 1013904223u;
    return T(scale * (state >> 8) / (1 << 20));
  };
  for (int i = 0; i < pairs; ++i) {
    Box<T> a{next(), next(), 0, 0}, b{next(), next(), 0, 0};
    for (Box<T>* box : {&a, &b}) {
      box->x2 = box->x1 + next();
      box->y2 = box->y1 + next();
    }
    const T overlap = iou(a, area(a), b, area(b));
    for (T threshold :
         {std::nextafter(overlap, T(-1)), overlap, std::nextafter(overlap, T(2)), T(overlap / 2)}) {
      const bool got = suppresses(a, area(a), b, area(b), make_iou_threshold<T>(threshold));
      require(got == (overlap > threshold), "pair " + std::to_string(i) + " at " + std::to_string(threshold));
    }
  }
}

void check_prefilter() {
  for (double scale : {1.0, 1e-16, 1e-20, 1e-22, 1e17}) check_suppresses<float>(2000, scale);
  for (double scale : {1.0, 1e-150, 1e-160, 1e150}) check_suppresses<double>(2000, scale);
}

void check_sort_keys() {
  const float inf = INFINITY, nan = NAN, negative_nan = std::copysign(nan, -1.0f);
  const std::vector<float> scores = {0.25f, -0.0f, negative_nan, inf, -inf, 0.125f, nan};
  const auto keys_of = [&](bool candidates_only) {
    std::vector<float> keys(scores.size());
    check_launch(sort_keys_cuda({scores.data(), 1, 1, int64_t(scores.size()), 0, 0, 1, DType::f32,
                                 candidates_only, 0.125, keys.data()},
                                nullptr));
    return keys;
  };
  const std::vector<float> canonical = {0.25f, 0.0f, nan, inf, -inf, 0.125f, nan};
  const std::vector<float> candidates = {0.25f, -inf, -inf, inf, -inf, -inf, -inf};
  const size_t bytes = scores.size() * sizeof(float);
  require(std::memcmp(keys_of(false).data(), canonical.data(), bytes) == 0, "one NaN and one zero");
  require(std::memcmp(keys_of(true).data(), candidates.data(), bytes) == 0, "candidates alone");
}

void check_limits() {
  NmsCudaParams p{};
  p.n = 100000;
  p.chunk_rows = kNmsChunkRows;
  require(nms_cuda_workspace_bytes(p) < (size_t(4) << 20), "the workspace of 100,000 boxes");
  p.chunk_rows = 100;
  require(nms_cuda(p, nullptr) == cudaErrorInvalidValue, "chunks are whole tiles");
  p.chunk_rows = 2 * kNmsChunkRows;
  require(nms_cuda(p, nullptr) == cudaErrorInvalidValue, "chunks are limited");
}

const EmulatedCases kCases = {
    {"sizes", check_sizes},         {"types", check_types},           {"classes", check_classes},
    {"chain", check_chain},         {"thresholds", check_thresholds}, {"nan", check_nan},
    {"soft_nms", check_soft_nms},   {"multiclass", check_multiclass}, {"limits", check_limits},
    {"prefilter", check_prefilter}, {"sort_keys", check_sort_keys},   {"shared_words", check_shared_words},
};

}  // namespace
}  // namespace gcv

int main(int argc, char** argv) { return gcv::run_cases(gcv::kCases, argc, argv); }
