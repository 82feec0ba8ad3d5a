// Drives the CPU kernels of RoI align at every instruction set with exactly sized memory, for the sanitizers,
// and compares them with plain loops. `roi_align_cpu_test full` adds larger maps.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>

#include "common/isa.h"
#include "roi_align_naive.h"

namespace {

using gcv_test::align_problem;
using gcv_test::AlignLevel;
using gcv_test::AlignProblem;
using gcv_test::AlignResults;
using gcv_test::close;
using std::int64_t;

int failures = 0;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// Not rounded up: the sanitizer sees the first byte too many. All NaN.
template <class E>
std::unique_ptr<E, Free> exactly(size_t count) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(count * sizeof(E), 1)) != 0) std::abort();
  std::memset(p, 0xff, count * sizeof(E));
  return std::unique_ptr<E, Free>(static_cast<E*>(p));
}

template <class E>
constexpr gcv::DType kDType = gcv::DType::f32;
template <>
constexpr gcv::DType kDType<double> = gcv::DType::f64;
template <>
constexpr gcv::DType kDType<gcv::Half> = gcv::DType::f16;
template <>
constexpr gcv::DType kDType<gcv::BFloat16> = gcv::DType::bf16;

template <class E>
using ComputeOf = typename gcv::Compute<E>::type;

enum Layout { kPlanes, kChannelsLast, kPartOfWider, kTransposed };

// Numbers [n, c, h, w] in as much memory as they reach over.
template <class E>
class Array {
 public:
  Array(int64_t n, int64_t c, int64_t h, int64_t w, Layout layout) : sizes_{n, c, h, w} {
    const int64_t by_layout[4][4] = {{c * h * w, h * w, w, 1},
                                     {c * h * w, 1, w * c, c},
                                     {c * h * (w + 3), h * (w + 3), w + 3, 1},
                                     {c * h * w, h * w, 1, h}};
    std::copy_n(by_layout[layout], 4, strides);
    int64_t last = 0;
    for (int i = 0; i < 4; ++i) last += (sizes_[i] - 1) * strides[i];
    data_ = exactly<E>(size_t(last + 1));
  }
  Array(int64_t n, int64_t c, int64_t h, int64_t w, Layout layout, const std::vector<double>& numbers)
      : Array(n, c, h, w, layout) {
    for_each([&](E& element, size_t i) { gcv::narrow(ComputeOf<E>(numbers[i]), element); });
  }

  E* data() const { return data_.get(); }
  std::vector<double> numbers() const {
    std::vector<double> result;
    for_each([&](const E& element, size_t) { result.push_back(double(gcv::widen(element))); });
    return result;
  }

  int64_t strides[4];

 private:
  template <class Visit>
  void for_each(const Visit& visit) const {
    size_t i = 0;
    for (int64_t n = 0; n < sizes_[0]; ++n) {
      for (int64_t c = 0; c < sizes_[1]; ++c) {
        for (int64_t y = 0; y < sizes_[2]; ++y) {
          for (int64_t x = 0; x < sizes_[3]; ++x)
            visit(data()[n * strides[0] + c * strides[1] + y * strides[2] + x * strides[3]], i++);
        }
      }
    }
  }

  int64_t sizes_[4];
  std::unique_ptr<E, Free> data_;
};

struct Way {
  Layout maps;
  bool results_last;  // and gradients
  int laid_out;       // a bit for each level
  int threads;
};

// Each part of the items by a thread of its own.
void share(const Way& way, int64_t items, size_t scratch_bytes,
           const std::function<void(void*, int64_t, int64_t)>& run) {
  const auto part = [&](int64_t begin, int64_t end) { run(exactly<char>(scratch_bytes).get(), begin, end); };
  if (way.threads == 1) return part(0, items);
  std::thread other(part, 0, items / 3);
  part(items / 3, items);
  other.join();
}

// A problem's arguments, in elements of type E and boxes of type B.
template <class E, class B>
class Run {
  using T = ComputeOf<E>;

 public:
  Run(const AlignProblem& p, const Way& way)
      : p_(p),
        way_(way),
        results_(way.results_last ? kChannelsLast : kPlanes),
        boxes_(1, 1, p.regions(), 5, kPlanes, p.boxes),
        r_(p.shape(kDType<E>)) {
    r_.boxes = {boxes_.data(), p.regions(), 5, kDType<B>};
    const int64_t block = gcv::roi_align_block_cpu(r_.dtype);
    block_count_ = (p.channels + block - 1) / block;
    for (size_t i = 0; i < p.levels.size(); ++i) {
      const AlignLevel& level = p.levels[i];
      maps_.emplace_back(p.images, p.channels, level.height, level.width, way.maps, level.maps);
      r_.levels[i].data = maps_[i].data();
      std::copy_n(maps_[i].strides, 4, r_.levels[i].strides);
      if (way.laid_out >> i & 1) lay_out(int64_t(i), block * level.height * level.width);
    }
    for (int64_t k = 0; k < p.regions(); ++k) {
      if (p.level(k) < 0 || way.laid_out >> p.level(k) & 1) continue;
      const auto place = gcv::roi_place<T>(r_, k);
      copied_pixels_ = std::max(copied_pixels_, gcv::roi_pixels(gcv::roi_copied_region(r_, place)));
    }
  }

  std::vector<double> forward() const {
    const Array<E> output(p_.regions(), p_.channels, p_.rows, p_.columns, results_);
    const gcv::RoiAlignParams params{r_, output.data(), way_.results_last};
    std::vector<int64_t> order(size_t(p_.regions()));
    std::iota(order.rbegin(), order.rend(), 0);
    share(way_, block_count_ * p_.regions(), gcv::roi_align_scratch_cpu(r_, copied_pixels_),
          [&](void* scratch, int64_t begin, int64_t end) {
            gcv::roi_align_cpu(params, blocks_, order.data(), scratch, begin, end);
          });
    return output.numbers();
  }

  AlignResults all() const {
    AlignResults results{forward(), {}, {}};
    const Array<E> grad(p_.regions(), p_.channels, p_.rows, p_.columns, results_, p_.grad);
    const Array<B> grad_boxes(1, 1, p_.regions(), 5, kPlanes);
    gcv::RoiAlignBackwardParams params{r_, grad.data(), {}, {}, way_.results_last, grad_boxes.data()};
    std::copy_n(grad.strides, 4, params.grad_strides);
    std::vector<Array<E>> grad_maps;
    for (size_t i = 0; i < p_.levels.size(); ++i) {
      grad_maps.emplace_back(p_.images, p_.channels, p_.levels[i].height, p_.levels[i].width, results_);
      params.grad_maps[i] = grad_maps[i].data();
    }
    maps_backward(params);
    share(way_, p_.regions(), gcv::roi_align_scratch_cpu(r_, copied_pixels_),
          [&](void* scratch, int64_t begin, int64_t end) {
            gcv::roi_align_boxes_backward_cpu(params, blocks_, scratch, begin, end);
          });
    for (const Array<E>& maps : grad_maps) results.grad_maps.push_back(maps.numbers());
    results.grad_boxes = grad_boxes.numbers();
    return results;
  }

 private:
  void lay_out(int64_t level, int64_t block_of_image) {
    const int64_t items = block_count_ * p_.images;
    laid_out_.push_back(exactly<T>(size_t(items * block_of_image)));
    blocks_.levels[level] = laid_out_.back().get();
    share(way_, items, 0, [&](void*, int64_t begin, int64_t end) {
      gcv::roi_align_lay_out_cpu(r_, level, laid_out_.back().get(), begin, end);
    });
  }

  void maps_backward(const gcv::RoiAlignBackwardParams& params) const {
    std::vector<int64_t> order, starts(1, 0);
    for (int64_t map = 0; map < int64_t(p_.levels.size()) * p_.images; ++map) {
      for (int64_t k = 0; k < p_.regions(); ++k) {
        if (p_.level(k) >= 0 && p_.level(k) * p_.images + int64_t(p_.boxes[size_t(5 * k)]) == map)
          order.push_back(k);
      }
      starts.push_back(int64_t(order.size()));
    }
    const gcv::RoiAlignOrder by_map{order.data(), starts.data()};
    share(way_, int64_t(starts.size() - 1) * block_count_, gcv::roi_align_maps_backward_scratch_cpu(r_),
          [&](void* scratch, int64_t begin, int64_t end) {
            gcv::roi_align_maps_backward_cpu(params, by_map, scratch, begin, end);
          });
  }

  const AlignProblem& p_;
  const Way way_;
  const Layout results_;
  const Array<B> boxes_;
  gcv::RoiAlignRegions r_;
  int64_t block_count_, copied_pixels_ = 0;
  std::vector<Array<E>> maps_;
  std::vector<std::unique_ptr<T, Free>> laid_out_;
  gcv::RoiAlignBlocks blocks_{};
};

void expect(bool fine, const AlignProblem& p, const Way& way, gcv::Isa isa, size_t bytes) {
  if (fine) return;
  ++failures;
  std::printf("FAILED: %s, %zu bytes, %lld channels, %lld x %lld%s, layout %d, laid out %d, %d threads\n",
              gcv::isa_name(isa), bytes, static_cast<long long>(p.channels),
              static_cast<long long>(p.levels[0].height), static_cast<long long>(p.levels[0].width),
              p.is_max ? ", largest" : "", way.maps, way.laid_out, way.threads);
}

template <class Check>
void at_every_isa(const Check& check) {
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512})
    if (gcv::set_isa(isa)) check(isa);
}

template <class E>
std::vector<double> rounded(const std::vector<double>& numbers) {
  return Array<E>(1, 1, 1, int64_t(numbers.size()), kPlanes, numbers).numbers();
}

template <class E>
double tolerance() {
  switch (kDType<E>) {
    case gcv::DType::f64:
      return 1e-12;
    case gcv::DType::f16:
      return 1e-3;
    case gcv::DType::bf16:
      return 4e-3;
    default:
      return 1e-5;
  }
}

template <class E, class B = E>
void check(AlignProblem p) {
  p.boxes = rounded<B>(p.boxes);
  const AlignResults expected = gcv_test::naive_align<ComputeOf<E>>(p);
  at_every_isa([&](gcv::Isa isa) {
    for (Layout maps : {kPlanes, kChannelsLast, kPartOfWider, kTransposed}) {
      for (int laid_out : {0, 2, -1}) {
        if (laid_out == 2 && p.levels.size() == 1) continue;
        Way way{maps, (maps == kPlanes) != (laid_out != 0), laid_out, 2};
        const AlignResults shared = Run<E, B>(p, way).all();
        expect(close(shared, expected, tolerance<E>()), p, way, isa, sizeof(E));
        way.threads = 1;
        if (maps == kPlanes) expect(close(Run<E, B>(p, way).all(), shared, 0), p, way, isa, sizeof(E));
      }
    }
  });
}

// Results that are large enough to pass by the caches, in chunks of all lengths and alignments.
template <class E>
void check_streamed(bool is_max) {
  const int64_t channels = 67, rows = 13, columns = 15;
  const int64_t regions = (int64_t(4) << 20) / (channels * rows * columns * int64_t(sizeof(E)));
  const AlignProblem p =
      align_problem(1, channels, {{20, 35, 1.0, {}}}, rows, columns, 1, true, is_max, regions);
  const AlignResults expected = gcv_test::naive_align<ComputeOf<E>>(p);
  at_every_isa([&](gcv::Isa isa) {
    for (bool last : {false, true}) {
      const Way way{kPlanes, last, 0, 2};
      expect(close(Run<E, E>(p, way).forward(), expected.output, tolerance<E>()), p, way, isa, sizeof(E));
    }
  });
}

// Blocks have 8 to 64 channels, vectors 2 to 16 columns.
void check_all(bool is_max) {
  const AlignProblem single = align_problem(1, 1, {{1, 1, 1.0, {}}}, 1, 1, 1, false, is_max);
  check<float>(single);
  check<double>(single);
  const AlignProblem narrow = align_problem(2, 3, {{7, 3, 0.5, {}}}, 2, 3, 2, true, is_max);
  check<float>(narrow);
  check<double>(narrow);
  check<gcv::Half>(narrow);
  check<gcv::BFloat16>(narrow);
  const AlignProblem wide = align_problem(1, 67, {{8, 50, 2.0, {}}}, 3, 2, 0, true, is_max);
  check<float>(wide);
  check<double>(wide);
  check<gcv::Half, float>(wide);
  check<gcv::BFloat16, float>(wide);
  const AlignProblem whole_blocks = align_problem(2, 64, {{5, 32, 1.0, {}}}, 2, 2, 0, false, is_max);
  check<float>(whole_blocks);
  check<double>(whole_blocks);
  // The last area is that of no level.
  AlignProblem levels = align_problem(2, 21, {{12, 40, 0.5, {}}, {6, 20, 0.25, {}}, {3, 10, 0.125, {}}}, 2, 3,
                                      2, false, is_max, 12);
  levels.areas = {120, 300, 1000};
  check<float>(levels);
  check<double>(levels);
  // Most samples off the map.
  AlignProblem many = align_problem(1, 2, {{6, 19, 1.0, {}}}, 2, 1, 45, false, is_max, 3);
  check<float>(many);
  many.ratio = 0;
  many.boxes[3] = 90, many.boxes[6] = -70, many.boxes[12] = -90;
  check<double>(many);
  // Equal samples, and then some that are NaN.
  AlignProblem few_values = align_problem(1, 3, {{6, 17, 1.0, {}}}, 2, 2, 3, true, is_max, 6, 2);
  check<float>(few_values);
  few_values.levels[0].maps[40] = few_values.levels[0].maps[160] = NAN;
  check<float>(few_values);
  check_streamed<float>(is_max);
  check_streamed<gcv::Half>(is_max);
}

}  // namespace

int main(int argc, char** argv) {
  for (bool is_max : {false, true}) check_all(is_max);
  if (argc > 1 && std::strcmp(argv[1], "full") == 0)
    check<float>(align_problem(2, 130, {{40, 67, 0.25, {}}}, 7, 7, 2, true, false, 40));
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
