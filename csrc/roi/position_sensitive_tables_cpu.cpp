// What each bin of each region reads, listed once for all channels.
#include "roi/position_sensitive_tables.h"

namespace gcv::GCV_ISA {
namespace {

// Calls read(pixel, weight) for all that a bin reads; returns what to divide by.
template <class T, class Read>
GCV_HD T for_bin(const PsAxis<T>& axis, int64_t bin, const Read& read) {
  if (axis.pool) {
    const PsRange range = ps_bin_pixels(axis.pixels, bin);
    for (int64_t pixel = range.first; pixel < range.end; ++pixel) read(pixel, T(1));
    return T(range.end - range.first);
  }
  const PsBinSamples<T> samples = ps_bin_samples(axis.samples, bin);
  for (int64_t n = 0; n < axis.samples.looked; ++n) {
    const PsSample<T> sample = ps_sample(axis.samples, samples, n);
    if (!sample.inside) continue;
    read(sample.before, T(1) - sample.weight);
    if (sample.after != sample.before) read(sample.after, sample.weight);
  }
  return axis.samples.grid;
}

// The pixels that one bin reads, each once: samples go one way, so that the same pixel is among the last
// three.
class Reads {
 public:
  int32_t count() const { return count_; }

  // How far back the pixel is; -1 where it is new.
  int32_t find_or_add(int64_t pixel) {
    for (int32_t back = 0; back < 3; ++back) {
      if (recent_[back] == pixel) return back;
    }
    recent_[2] = recent_[1];
    recent_[1] = recent_[0];
    recent_[0] = pixel;
    ++count_;
    return -1;
  }

 private:
  int64_t recent_[3] = {-1, -1, -1};
  int32_t count_ = 0;
};

template <class T>
int32_t most_reads(const PsAxis<T>& axis, int64_t bins, int64_t& first, int64_t& end) {
  int32_t most = 0;
  for (int64_t bin = 0; bin < bins; ++bin) {
    Reads reads;
    for_bin(axis, bin, [&](int64_t pixel, T) {
      reads.find_or_add(pixel);
      first = pixel < first ? pixel : first;
      end = pixel >= end ? pixel + 1 : end;
    });
    most = reads.count() > most ? reads.count() : most;
  }
  return most;
}

template <class T>
PsNeeds needs_of(const PsGeometry& g, int64_t k) {
  const PsRegion<T> region = ps_region<T>(g, k);
  PsNeeds needs{region.image, 0, 0, 0, 0};
  if (!region.sound) return needs;
  int64_t first = g.height, end = 0, first_column = g.width, end_column = 0;
  needs.rows = most_reads(region.y, g.bins_y, first, end);
  needs.columns = most_reads(region.x, g.bins_x, first_column, end_column);
  needs.first_row = int32_t(first);
  needs.end_row = int32_t(end);
  return needs;
}

// One lane's lists along one axis, each of `length`. A pixel is stored as a multiple of `unit`.
template <class T>
void fill_lane(const PsAxis<T>& axis, bool sound, int64_t bins, int32_t length, int64_t unit, T* weights,
               int32_t* pixels, T* counts) {
  for (int64_t bin = 0; bin < bins; ++bin) {
    T* const weight = weights + bin * length * kPsGroup;
    int32_t* const at = pixels + bin * length * kPsGroup;
    Reads reads;
    T count = T(__builtin_nanf(""));
    if (sound) {
      count = for_bin(axis, bin, [&](int64_t pixel, T w) {
        const int32_t back = reads.find_or_add(pixel);
        const int64_t entry = (reads.count() - 1 - (back < 0 ? 0 : back)) * kPsGroup;
        weight[entry] = back < 0 ? w : weight[entry] + w;
        at[entry] = int32_t(pixel * unit);
      });
    }
    for (int32_t i = reads.count(); i < length; ++i) {
      weight[i * kPsGroup] = 0;
      at[i * kPsGroup] = kPsAbsent;
    }
    counts[bin * kPsGroup] = count;
  }
}

template <class T>
void fill_group(const PsGeometry& g, const PsTables& tables, int64_t number) {
  const PsGroup& group = tables.groups[number];
  const PsGroupTables<T> t = ps_group_tables<T>(g, tables, group);
  for (int64_t lane = 0; lane < kPsGroup; ++lane) {
    const int64_t k = tables.order[number * kPsGroup + lane];
    PsRegion<T> region{};
    if (k >= 0) region = ps_region<T>(g, k);
    fill_lane(region.y, region.sound, g.bins_y, group.rows, g.width, t.row_weights + lane,
              t.row_offsets + lane, t.row_counts + lane);
    fill_lane(region.x, region.sound, g.bins_x, group.columns, 1, t.column_weights + lane, t.columns + lane,
              t.column_counts + lane);
  }
}

}  // namespace

void ps_needs_cpu(const PsGeometry& g, PsNeeds* needs, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) {
    needs[k] = g.dtype == DType::f64 ? needs_of<double>(g, k) : needs_of<float>(g, k);
  }
}

void ps_tables_cpu(const PsGeometry& g, const PsTables& tables, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group) {
    if (g.dtype == DType::f64) {
      fill_group<double>(g, tables, group);
    } else {
      fill_group<float>(g, tables, group);
    }
  }
}

}  // namespace gcv::GCV_ISA
