// Drives the CPU kernels of spatial pyramid pooling at every instruction set with exactly sized memory, for
// the sanitizers, and compares them with loops over bins.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "roi/pyramid.h"

namespace {

int failures = 0;

void expect(bool fine, const char* what, gcv::Isa isa) {
  if (fine) return;
  ++failures;
  std::printf("FAILED: %s, %s\n", what, gcv::isa_name(isa));
}

gcv::Pyramid pyramid(bool average, bool paper, int64_t channels, const std::vector<float>* boxes) {
  gcv::Pyramid p{};
  p.images = 2, p.channels = channels, p.height = 7, p.width = 19;
  p.whole = !boxes;
  p.regions = {boxes ? boxes->data() : nullptr, boxes ? int64_t(boxes->size()) / 5 : 2, 5, gcv::DType::f32};
  p.level_count = 3;
  p.levels[0] = 1, p.levels[1] = 3, p.levels[2] = 4;
  p.average = average, p.paper = paper;
  p.spatial_scale = 0.5;
  p.dtype = gcv::DType::f32;
  return p;
}

float pooled(const gcv::Pyramid& p, const std::vector<float>& maps, const gcv::RegionCells& r, int64_t c,
             int level, int i, int j) {
  if (!r.sound) return NAN;
  if (gcv::is_empty(r)) return 0;
  const gcv::CellSpan ys = gcv::bin_cells(p.paper, gcv::cell_count(r.y), level, i);
  const gcv::CellSpan xs = gcv::bin_cells(p.paper, gcv::cell_count(r.x), level, j);
  float best = -INFINITY, sum = 0;
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    for (int64_t x = xs.begin; x < xs.end; ++x) {
      const int64_t at = ((r.image * p.channels + c) * p.height + r.y.begin + y) * p.width + r.x.begin + x;
      best = std::max(best, maps[at]);
      sum += maps[at];
    }
  }
  return p.average ? sum / float(gcv::cell_count(ys) * gcv::cell_count(xs)) : best;
}

bool is_right(const gcv::Pyramid& p, const std::vector<float>& maps, const std::vector<float>& output) {
  size_t at = 0;
  for (int64_t k = 0; k < p.regions.count; ++k) {
    const gcv::RegionCells r = gcv::region_cells<float>(p, k);
    for (int l = 0; l < p.level_count; ++l) {
      const int level = p.levels[l];
      for (int64_t c = 0; c < p.channels; ++c) {
        for (int b = 0; b < level * level; ++b, ++at) {
          const float expected = pooled(p, maps, r, c, level, b / level, b % level);
          if (std::isnan(expected) ? !std::isnan(output[at]) : !(std::abs(output[at] - expected) < 1e-4f))
            return false;
        }
      }
    }
  }
  return true;
}

struct Memory {
  explicit Memory(int64_t bytes) : data(std::aligned_alloc(64, size_t(bytes + 63) / 64 * 64)) {}
  ~Memory() { std::free(data); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data;
};

void check(gcv::Isa isa, const gcv::Pyramid& p) {
  const int64_t cells = p.height * p.width, lanes = gcv::pyramid_lanes(p.dtype);
  const int64_t groups = (p.channels + lanes - 1) / lanes, bytes = gcv::pyramid_scratch_bytes(p);
  std::vector<float> maps(p.images * p.channels * cells);
  for (size_t i = 0; i < maps.size(); ++i) maps[i] = float(i * 7919 % 1009) / 16 - 20;
  std::vector<float> output(p.regions.count * gcv::pyramid_features(p)), same(maps.size());
  const gcv::PlanesIn planes{maps.data(), {p.channels * cells, cells, p.width, 1}};
  const gcv::PyramidPoolParams forward{p, planes, output.data()};
  const Memory shared(p.images * groups * cells * lanes * 4), first(bytes), second(bytes);
  if (!p.whole) gcv::pyramid_gather_cpu(forward, shared.data, 0, p.images * groups);
  const void* gathered = p.whole ? nullptr : shared.data;
  const int64_t items = p.regions.count * groups;
  std::thread other([&] { gcv::pyramid_pool_cpu(forward, gathered, first.data, 0, items / 2); });
  gcv::pyramid_pool_cpu(forward, gathered, second.data, items / 2, items);
  other.join();
  expect(is_right(p, maps, output), "pooled", isa);

  // Every feature of a sound region passes its gradient on, whole.
  std::vector<float> grad(output.size(), 1.f), grad_input(maps.size());
  const gcv::PyramidBackwardParams backward{
      p, grad.data(), planes, grad_input.data(), {p.channels * cells, cells, p.width, 1}};
  std::thread another([&] { gcv::pyramid_backward_cpu(backward, first.data, 0, groups); });
  gcv::pyramid_backward_cpu(backward, second.data, groups, 2 * groups);
  another.join();
  double total = 0, expected = 0;
  for (float g : grad_input) total += g;
  for (int64_t k = 0; k < p.regions.count; ++k) {
    const gcv::RegionCells r = gcv::region_cells<float>(p, k);
    if (r.sound && !gcv::is_empty(r)) expected += double(gcv::pyramid_features(p));
  }
  expect(std::abs(total - expected) < 0.01, "gradient", isa);

  if (p.average) return;
  std::vector<float> values(output.size());
  gcv::pyramid_at_cpu({p, planes, planes, values.data()}, first.data, 0, 2 * groups);
  bool equal = true;
  for (size_t i = 0; i < values.size(); ++i)
    equal = equal && (std::isnan(output[i]) || values[i] == output[i]);
  expect(equal, "values at the maxima", isa);
}

}  // namespace

int main() {
  const std::vector<float> boxes{0, 0,  0,  38, 14,  1, 3, 2, 30,  9, 1, -9,    -9,    -5,   -5,
                                 0, 20, 10, 4,  3.f, 1, 0, 0, NAN, 5, 0, -1e9f, -1e9f, 1e9f, 1e9f};
  for (gcv::Isa isa : {gcv::Isa::baseline, gcv::Isa::avx2, gcv::Isa::avx512}) {
    if (!gcv::set_isa(isa)) continue;
    for (int64_t channels : {1, 5, 16, 35}) {
      for (int variant = 0; variant < 4; ++variant) {
        check(isa, pyramid(variant & 1, variant & 2, channels, nullptr));
        check(isa, pyramid(variant & 1, variant & 2, channels, &boxes));
      }
    }
  }
  std::printf("%s\n", failures ? "some checks failed" : "all checks passed");
  return failures ? 1 : 0;
}
