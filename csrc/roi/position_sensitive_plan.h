// Sorts the regions into groups and lays out their tables (position_sensitive_tables.h). Free of torch.
#pragma once

#include <vector>

#include "roi/position_sensitive_tables.h"

namespace gcv {

struct PsPlan {
  std::vector<PsNeeds> needs;
  std::vector<int64_t> order;  // regions by groups; -1 fills the last group of an image
  std::vector<PsGroup> groups;
  std::vector<PsImage> images;
  int64_t numbers = 0, pixels = 0;

  size_t table_bytes(size_t number_bytes) const {
    return size_t(numbers) * number_bytes + size_t(pixels) * 4;
  }
};

inline PsTables ps_tables(const PsPlan& plan, size_t number_bytes, void* memory) {
  char* const pixels = static_cast<char*>(memory) + size_t(plan.numbers) * number_bytes;
  return {plan.needs.data(),
          plan.order.data(),
          plan.groups.data(),
          plan.images.data(),
          memory,
          reinterpret_cast<int32_t*>(pixels)};
}

namespace detail {

// A stable counting sort of `order` by key(region), which lies in [0, keys).
template <class Key>
inline void sort_regions(std::vector<int64_t>& order, int64_t keys, Key key) {
  std::vector<int64_t> starts(size_t(keys) + 1), sorted(order.size());
  for (int64_t k : order) ++starts[size_t(key(k)) + 1];
  for (size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
  for (int64_t k : order) sorted[size_t(starts[size_t(key(k))]++)] = k;
  order.swap(sorted);
}

inline void add_group(const PsGeometry& g, PsPlan& plan, const int64_t* regions, int64_t count) {
  PsGroup group{plan.needs[size_t(regions[0])].image, 0, 0, plan.numbers, plan.pixels};
  PsImage& image = plan.images[size_t(group.image)];
  for (int64_t l = 0; l < kPsGroup; ++l) plan.order.push_back(l < count ? regions[l] : -1);
  for (int64_t l = 0; l < count; ++l) {
    const PsNeeds& needs = plan.needs[size_t(regions[l])];
    group.rows = needs.rows > group.rows ? needs.rows : group.rows;
    group.columns = needs.columns > group.columns ? needs.columns : group.columns;
    if (needs.rows == 0) continue;
    image.first_row = needs.first_row < image.first_row ? needs.first_row : image.first_row;
    image.end_row = needs.end_row > image.end_row ? needs.end_row : image.end_row;
  }
  const int64_t lists = g.bins_y * group.rows + g.bins_x * group.columns;
  plan.pixels += kPsGroup * lists;
  plan.numbers += kPsGroup * (lists + g.bins_y + g.bins_x);
  plan.groups.push_back(group);
}

}  // namespace detail

// From the needs of all regions, of which there is one or more.
inline void ps_make_plan(const PsGeometry& g, PsPlan& plan) {
  constexpr int32_t sizes = 64;
  std::vector<int64_t> regions(plan.needs.size());
  for (size_t k = 0; k < regions.size(); ++k) regions[k] = int64_t(k);
  const auto size_key = [](int32_t size) { return int64_t(size < sizes ? size : sizes - 1); };
  detail::sort_regions(regions, sizes, [&](int64_t k) { return size_key(plan.needs[size_t(k)].columns); });
  detail::sort_regions(regions, sizes, [&](int64_t k) { return size_key(plan.needs[size_t(k)].rows); });
  detail::sort_regions(regions, g.images, [&](int64_t k) { return plan.needs[size_t(k)].image; });
  plan.images.assign(size_t(g.images), PsImage{0, 0, g.height, 0});
  const auto image_of = [&](size_t at) { return plan.needs[size_t(regions[at])].image; };
  for (size_t at = 0; at < regions.size();) {
    const int64_t image = image_of(at);
    plan.images[size_t(image)].first_group = int64_t(plan.groups.size());
    while (at < regions.size() && image_of(at) == image) {
      size_t end = at + 1;
      while (end < regions.size() && end < at + kPsGroup && image_of(end) == image) ++end;
      detail::add_group(g, plan, &regions[at], int64_t(end - at));
      at = end;
    }
    plan.images[size_t(image)].end_group = int64_t(plan.groups.size());
  }
}

}  // namespace gcv
