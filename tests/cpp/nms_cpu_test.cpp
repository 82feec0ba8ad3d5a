// Drives the CPU kernels of room nms at every instruction set with exactly sized memory, for the sanitizers,
// and compares them with plain loops. `nms_cpu_test full` adds larger cases.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "nms/nms.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what, gcv::Isa isa, int64_t n) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s, %s, n = %lld\n", what, gcv::isa_name(isa), static_cast<long long>(n));
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many.
std::unique_ptr<char, Free> exactly(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(bytes, 1)) != 0) std::abort();
  std::memset(p, 0xa5, bytes);
  return std::unique_ptr<char, Free>(static_cast<char*>(p));
}

template <class T>
struct Problem {
  std::vector<T> boxes, scores;
  std::vector<int64_t> classes;
  int64_t n;
};

enum class Kind { random, grid, odd };

template <class T>
Problem<T> make(Kind kind, int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> unit(0, 1);
  Problem<T> p{{}, {}, {}, n};
  for (int64_t i = 0; i < n; ++i) {
    double x = unit(random) * 100, y = unit(random) * 100, w = 5 + unit(random) * 40,
           h = 5 + unit(random) * 40;
    if (kind == Kind::grid) {
      x = std::floor(x / 10), y = std::floor(y / 10), w = std::floor(w / 5), h = std::floor(h / 5);
    }
    if (kind == Kind::odd && i % 3 == 0) {
      const double values[] = {NAN, INFINITY, -INFINITY, 1e-40, -50, 1e30, 0};
      w = values[random() % 7], h = values[random() % 7];
    }
    for (double v : {x, y, x + w, y + h}) p.boxes.push_back(T(v));
    p.scores.push_back(kind == Kind::random ? T(unit(random)) : T(std::floor(unit(random) * 8) / 8));
    p.classes.push_back(int64_t(random() % 3) - 1);
  }
  return p;
}

template <class T>
T iou(const T* a, const T* b) {
  const T area_a = (a[2] - a[0]) * (a[3] - a[1]), area_b = (b[2] - b[0]) * (b[3] - b[1]);
  const T w = std::max(T(0), std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const T h = std::max(T(0), std::min(a[3], b[3]) - std::max(a[1], b[1]));
  return w * h / (area_a + area_b - w * h);
}

template <class T>
std::vector<int64_t> naive_nms(const Problem<T>& p, bool by_class, double threshold) {
  std::vector<int64_t> order(p.n), keep;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return p.scores[a] > p.scores[b]; });
  for (int64_t i : order) {
    const bool dropped = std::any_of(keep.begin(), keep.end(), [&](int64_t k) {
      return (!by_class || p.classes[k] == p.classes[i]) &&
             double(iou(&p.boxes[4 * k], &p.boxes[4 * i])) > threshold;
    });
    if (!dropped) keep.push_back(i);
  }
  return keep;
}

template <class T>
gcv::DType dtype() {
  return sizeof(T) == 8 ? gcv::DType::f64 : gcv::DType::f32;
}

template <class T>
std::vector<int64_t> run_nms(const Problem<T>& problem, bool by_class, double threshold, bool threads) {
  gcv::NmsParams p{};
  p.boxes = problem.boxes.data();
  p.box_stride = 4;
  p.coord_stride = 1;
  p.scores = problem.scores.data();
  p.score_stride = 1;
  p.class_ids = by_class ? problem.classes.data() : nullptr;
  p.class_stride = 1;
  p.n = problem.n;
  p.dtype = dtype<T>();
  p.iou_threshold = threshold;
  const auto workspace = exactly(gcv::nms_workspace_bytes(p));
  const int64_t groups = gcv::nms_prepare_cpu(p, workspace.get());
  if (threads) {
    std::vector<std::thread> pool;
    for (int64_t g = 0; g < groups; ++g) {
      pool.emplace_back([&, g] { gcv::nms_groups_cpu(p, workspace.get(), g, g + 1); });
    }
    for (std::thread& thread : pool) thread.join();
  } else {
    gcv::nms_groups_cpu(p, workspace.get(), 0, groups);
  }
  std::vector<int64_t> keep(problem.n);
  keep.resize(gcv::nms_collect_cpu(p, workspace.get(), keep.data()));
  return keep;
}

template <class T>
void check_soft(const Problem<T>& problem, gcv::SoftNmsMethod method, gcv::Isa isa) {
  gcv::SoftNmsParams p{};
  p.boxes = problem.boxes.data();
  p.box_stride = 4;
  p.coord_stride = 1;
  p.scores = problem.scores.data();
  p.score_stride = 1;
  p.n = problem.n;
  p.dtype = dtype<T>();
  p.method = method;
  p.iou_threshold = 0.3;
  p.sigma = 0.5;
  p.score_threshold = 0.05;
  const auto workspace = exactly(gcv::soft_nms_workspace_bytes(p));
  std::vector<int64_t> keep(problem.n);
  std::vector<T> decayed(problem.n);
  const int64_t count = gcv::soft_nms_cpu(p, workspace.get(), keep.data(), decayed.data());

  std::vector<T> scores = problem.scores;
  std::vector<bool> taken(problem.n);
  int64_t expected = 0;
  for (;; ++expected) {
    int64_t best = -1;
    for (int64_t i = 0; i < problem.n; ++i) {
      if (!taken[i] && double(scores[i]) > p.score_threshold && (best < 0 || scores[i] > scores[best]))
        best = i;
    }
    if (best < 0) break;
    if (expected < count)
      expect(keep[expected] == best && decayed[expected] == scores[best], "soft_nms", isa, p.n);
    taken[best] = true;
    for (int64_t i = 0; i < problem.n; ++i) {
      const T overlap = iou(&problem.boxes[4 * best], &problem.boxes[4 * i]);
      scores[i] = gcv::decayed(scores[i], overlap, T(0.3f) > 0.3 ? std::nextafter(T(0.3f), T(0)) : T(0.3),
                               T(0.5), method);
    }
  }
  expect(expected == count, "soft_nms count", isa, p.n);
}

template <class T>
void check_multiclass(const Problem<T>& problem, int64_t most, gcv::Isa isa) {
  gcv::MulticlassNmsParams p{};
  p.boxes = problem.boxes.data();
  p.box_stride = 4;
  p.coord_stride = 1;
  p.scores = problem.scores.data();
  p.score_stride = 1;
  p.batch = p.classes = 1;
  p.n = problem.n;
  p.dtype = dtype<T>();
  p.iou_threshold = 0.5;
  p.score_threshold = -1;
  p.max_output_per_class = p.max_total = most;
  std::vector<uint32_t> kept(p.most_per_class()), kept_count(1);
  std::vector<int64_t> indices(2 * most), counts(1);
  std::vector<T> scores(most);
  p.kept = kept.data();
  p.kept_count = kept_count.data();
  p.indices = indices.data();
  p.out_scores = scores.data();
  p.counts = counts.data();
  const auto workspace = exactly(gcv::multiclass_nms_workspace_bytes(p));
  gcv::multiclass_nms_classes_cpu(p, workspace.get(), 0, 1);
  gcv::multiclass_nms_merge_cpu(p, workspace.get(), 0, 1);
  std::vector<int64_t> expected = naive_nms(problem, false, 0.5);
  expected.resize(std::min<size_t>(expected.size(), most));
  std::vector<int64_t> found;
  for (int64_t i = 0; i < counts[0]; ++i) found.push_back(indices[2 * i + 1]);
  // Equal scores come out by box index, which the merge's ties allow and the greedy order already gives.
  expect(found == expected, "multiclass_nms", isa, p.n);
}

template <class T>
void check_all(int64_t n, gcv::Isa isa) {
  for (Kind kind : {Kind::random, Kind::grid, Kind::odd}) {
    const Problem<T> problem = make<T>(kind, n, unsigned(n));
    for (double threshold : {-0.1, 0.0, 0.3, 0.5, 1.0}) {
      for (bool by_class : {false, true}) {
        const auto expected = naive_nms(problem, by_class, threshold);
        expect(run_nms(problem, by_class, threshold, false) == expected, by_class ? "batched_nms" : "nms",
               isa, n);
      }
    }
    expect(run_nms(problem, true, 0.5, true) == naive_nms(problem, true, 0.5), "batched_nms in threads", isa,
           n);
    for (auto method : {gcv::SoftNmsMethod::linear, gcv::SoftNmsMethod::gaussian})
      check_soft(problem, method, isa);
    for (int64_t most : {int64_t(0), int64_t(7), n}) check_multiclass(problem, most, isa);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int64_t> sizes = {0, 1, 15, 64, 191, 193, 300};
  if (argc > 1 && std::strcmp(argv[1], "full") == 0) sizes.insert(sizes.end(), {700, 2000});
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) {
      std::printf("skipped %s: this processor lacks it\n", gcv::isa_name(isa));
      continue;
    }
    for (int64_t n : sizes) {
      check_all<float>(n, isa);
      check_all<double>(n, isa);
    }
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
