// The sums of convolutions: products of a few images, or of a whole line, with packed weights. Only
// *_cpu.cpp files of the room include this.
#pragma once

#include "common/gemm.h"
#include "common/simd.h"
#include "pixel_sampling/program.h"

namespace gcv::GCV_ISA {
namespace {

// At most so many taps show something.
constexpr int64_t kMostTaps = 1024;

inline int64_t round_up(int64_t number, int64_t to) { return (number + to - 1) / to * to; }

// The vectors of the next panel: two, or the last three at once, for a single one would read the input again.
inline int panel_vectors(int64_t vectors_left) {
  return vectors_left == 3 || vectors_left == 1 ? int(vectors_left) : kGemmVectors;
}

// Rows of packed weights of one step: the channels that it sees, tap after tap.
inline int64_t packed_rows(const SamplingInstruction& i, int64_t step) {
  int64_t rows = 0;
  for (int64_t t = 0; t < i.tap_count; ++t) rows += i.taps[t].limits[step];
  return rows;
}

// Where a step's columns begin among the sums of a pixel.
template <class T>
int64_t padded_start(const SamplingInstruction& i, int64_t step) {
  int64_t start = 0;
  for (int64_t s = 0; s < step; ++s) start += round_up(i.columns[s + 1] - i.columns[s], kLanes<T>);
  return start;
}

// Where a step's weights begin among those of its convolution.
template <class T>
int64_t packed_start(const SamplingInstruction& i, int64_t step) {
  int64_t start = 0;
  for (int64_t s = 0; s < step; ++s)
    start += packed_rows(i, s) * round_up(i.columns[s + 1] - i.columns[s], kLanes<T>);
  return start;
}

template <class T>
T* line_of(const SamplingValue& v, int64_t line) {
  return static_cast<T*>(v.data) + line % v.kept_lines * v.by_line;
}

template <class T>
T* row_of(const SamplingValue& v, int64_t line, int64_t pixel, int64_t image) {
  return line_of<T>(v, line) + pixel * v.by_pixel + image * v.by_image;
}

template <class T>
T* sums_of(const SamplingProgram& p, const SamplingInstruction& i, int64_t pixel, int64_t image) {
  const int64_t row = (i.keeps_sums ? pixel * p.images : 0) + image;
  return static_cast<T*>(p.sums) + i.sums + row * i.sums_row;
}

enum class Taps { all, ahead, rest };

// The places of one product: all images of several pixels, or some images of one.
struct Places {
  int64_t line;
  SamplingRange pixels, images;

  int64_t rows() const { return (pixels.end - pixels.begin) * (images.end - images.begin); }
};

template <class T>
class Sums {
 public:
  Sums(const SamplingProgram& p, const SamplingInstruction& i, Taps which, int64_t step)
      : p_(p), i_(i), input_(p.values[i.inputs[0]]), which_(which), step_(step) {}

  // Sums become what the taps add up to, or that is added to them.
  void run(const Places& places, bool add) const {
    Places part = places;
    for (int64_t x = places.pixels.begin; x < places.pixels.end; x = part.pixels.end) {
      part.pixels = {x, x + 1};
      while (part.pixels.end < places.pixels.end && sees_alike(x, part.pixels.end)) ++part.pixels.end;
      multiply(part, add);
    }
  }

 private:
  bool takes(const SamplingTap& tap) const {
    return which_ == Taps::all || sampling_is_ahead(p_, i_, tap) == (which_ == Taps::ahead);
  }

  bool is_inside(const SamplingTap& tap, int64_t pixel) const {
    return pixel + tap.pixel >= 0 && pixel + tap.pixel < p_.pixels;
  }

  bool sees_alike(int64_t a, int64_t b) const {
    for (int64_t t = 0; t < i_.tap_count; ++t)
      if (takes(i_.taps[t]) && is_inside(i_.taps[t], a) != is_inside(i_.taps[t], b)) return false;
    return true;
  }

  // The input's element (first pixel, first image) of the places is where A begins.
  int64_t segments_of(const Places& at, int64_t columns, GemmSegment (&found)[kMostTaps]) const {
    const T* base = static_cast<const T*>(input_.data);
    int64_t count = 0, packed_row = 0;
    for (int64_t t = 0; t < i_.tap_count; ++t) {
      const SamplingTap& tap = i_.taps[t];
      const int64_t limit = tap.limits[step_], line = at.line + tap.line;
      if (limit > 0 && takes(tap) && line >= 0 && is_inside(tap, at.pixels.begin)) {
        const T* from = row_of<T>(input_, line, at.pixels.begin + tap.pixel, at.images.begin);
        found[count++] = {from - base, packed_row * columns, limit};
      }
      packed_row += limit;
    }
    return count;
  }

  void multiply(const Places& at, bool add) const {
    GemmSegment segments[kMostTaps];
    const int64_t columns = i_.columns[step_ + 1] - i_.columns[step_], rows = packed_rows(i_, step_);
    const T* packed = static_cast<const T*>(p_.packed) + i_.packed + packed_start<T>(i_, step_);
    T* sums = sums_of<T>(p_, i_, at.pixels.begin, at.images.begin) + padded_start<T>(i_, step_);
    const int64_t padded = round_up(columns, kLanes<T>);
    int vectors = 0;
    for (int64_t first = 0; first < padded; first += vectors * kLanes<T>) {
      vectors = panel_vectors((padded - first) / kLanes<T>);
      const int64_t width = vectors * kLanes<T>, count = segments_of(at, width, segments);
      if (count == 0 && add) return;
      panel({segments, count}, packed + first * rows, vectors, sums + first, at.rows(), add);
    }
  }

  void panel(const GemmSegments& segments, const T* packed, int vectors, T* sums, int64_t rows,
             bool add) const {
    GemmTile<T> tile;
    tile.b = packed;
    tile.b_row = vectors * kLanes<T>;
    tile.segments = segments;
    tile.c_row = i_.sums_row;
    tile.vectors = vectors;
    tile.add = add;
    const int64_t most = vectors == 3 ? kGemmRowsOfThree : kGemmRows;
    for (int64_t row = 0; row < rows; row += tile.rows) {
      const int64_t rest = rows - row;
      // Two tiles of eight, not one of twelve and one of four.
      tile.rows = int(rest <= most ? rest : rest < 2 * most ? (rest + 1) / 2 : most);
      tile.a = {static_cast<const T*>(input_.data) + row * input_.by_image, input_.by_image, 1};
      tile.c = sums + row * i_.sums_row;
      GCV_ISA::gemm_tile(tile);
    }
  }

  const SamplingProgram& p_;
  const SamplingInstruction& i_;
  const SamplingValue& input_;
  const Taps which_;
  const int64_t step_;
};

template <class T>
void pack(const SamplingProgram& p, const SamplingInstruction& i) {
  const int64_t channels = p.values[i.inputs[0]].starts[p.steps], all = i.columns[p.steps];
  auto* to = static_cast<T*>(p.packed) + i.packed;
  for (int64_t step = 0; step < p.steps; ++step) {
    const int64_t last = i.columns[step + 1];
    int64_t width = 0;
    for (int64_t first = i.columns[step]; first < last; first += width) {
      width = panel_vectors(round_up(last - first, kLanes<T>) / kLanes<T>) * kLanes<T>;
      for (int64_t t = 0; t < i.tap_count; ++t) {
        for (int64_t k = 0; k < i.taps[t].limits[step]; ++k) {
          const T* from = static_cast<const T*>(i.weight) + (t * channels + k) * all;
          for (int64_t c = first; c < first + width; ++c) *to++ = c < last ? from[c] : T(0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace gcv::GCV_ISA
