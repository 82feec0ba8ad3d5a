// Where the columns of a crop come from, worked out once for all rows of a box, and the vector loops over a
// row. Only crop_*_cpu.cpp files include this.
#pragma once

#include <climits>
#include <cstring>

#include "common/dtype_arrays.h"
#include "common/simd.h"
#include "common/workspace.h"
#include "roi/crop.h"

namespace gcv {
namespace {

// A row of a crop has `count` numbers: those of a plane, or the interleaved channels of channels_last.
// Numbers [begin, end) come from the image, from `span` numbers of a source row that start at `first`.
template <class T>
struct Columns {
  int64_t channels;  // that are interleaved
  int64_t pixels, count, begin, end;
  int64_t first, span;
  bool gaps;               // some of [begin, end) are outside all the same, by the rounding of positions
  bool pixelwise;          // `left` and `right` are not filled: channels are many, or rows too long for them
  CropSample<T>* samples;  // [pixels]
  int32_t *left, *right;   // [count], into the span
  T* weights;              // [count]
  // Where a vector of results needs no more than two of the source: their place, the lanes that exist, and
  // `left` and `right` are counted from there.
  bool close;
  int32_t* places;
  uint32_t* lanes;
};

template <class T>
constexpr int64_t padded(int64_t count) {
  return (count / kLanes<T> + 2) * kLanes<T>;
}

template <class T>
Columns<T> take_columns(Workspace& workspace, int64_t pixels, int64_t channels) {
  Columns<T> c{};
  c.channels = channels;
  c.pixels = pixels;
  c.count = pixels * channels;
  const int64_t room = padded<T>(c.count);
  c.samples = workspace.take<CropSample<T>>(pixels);
  c.left = workspace.take<int32_t>(room);
  c.right = workspace.take<int32_t>(room);
  c.weights = workspace.take<T>(room);
  c.places = workspace.take<int32_t>(room / kLanes<T>);
  c.lanes = workspace.take<uint32_t>(room / kLanes<T>);
  return c;
}

// Two AVX-512 registers hold what sixteen permuted results need.
#ifdef __AVX512F__
template <class T>
inline constexpr bool kPermutes = sizeof(T) == 4;
#else
template <class T>
inline constexpr bool kPermutes = false;
#endif

template <class T>
void find_close_vectors(Columns<T>& c) {
  constexpr int64_t lanes = kLanes<T>;
  c.close = kPermutes<T>;
  for (int64_t v = 0; c.close && c.begin + v * lanes < c.end; ++v) {
    const int64_t from = c.begin + v * lanes, to = from + lanes < c.end ? from + lanes : c.end;
    int32_t least = INT_MAX, most = 0;
    for (int64_t o = from; o < to; ++o) {
      least = c.left[o] < least ? c.left[o] : least;
      most = c.right[o] > most ? c.right[o] : most;
    }
    const int64_t left_over = c.span - least;
    c.places[v] = least;
    c.lanes[v] = left_over >= 32 ? ~0u : (1u << left_over) - 1;
    c.close = most - least < 2 * lanes;
  }
  if (!c.close) return;
  for (int64_t o = c.begin; o < c.end; ++o) {
    const int32_t place = c.places[(o - c.begin) / lanes];
    c.left[o] -= place;
    c.right[o] -= place;
  }
}

template <class T>
void expand_samples(Columns<T>& c) {
  for (int64_t x = c.begin / c.channels, o = c.begin; o < c.end; ++x) {
    const CropSample<T> s = c.samples[x];
    // A gap takes any number of the span, and is filled afterwards.
    const int64_t low = s.inside ? s.low * c.channels - c.first : 0;
    const int64_t high = s.inside ? s.high * c.channels - c.first : 0;
    for (int64_t k = 0; k < c.channels; ++k, ++o) {
      c.left[o] = int32_t(low + k);
      c.right[o] = int32_t(high + k);
      c.weights[o] = s.weight;
    }
  }
  for (int64_t o = c.end; o < c.end + kLanes<T>; ++o) {
    c.left[o] = c.right[o] = 0;
    c.weights[o] = 0;
  }
}

template <class T>
void find_columns(const CropAxis<T>& axis, bool nearest, Columns<T>& c) {
  int64_t begin = c.pixels, end = 0, inside = 0, least = axis.length, most = -1;
  for (int64_t x = 0; x < c.pixels; ++x) {
    const CropSample<T> s = c.samples[x] = crop_sample(axis, x, nearest);
    if (!s.inside) continue;
    begin = begin < x ? begin : x;
    end = x + 1;
    ++inside;
    least = s.low < least ? s.low : least;
    most = s.high > most ? s.high : most;
  }
  if (inside == 0) begin = least = 0;
  c.gaps = inside != end - begin;
  c.begin = begin * c.channels;
  c.end = end * c.channels;
  c.first = least * c.channels;
  c.span = inside == 0 ? 0 : (most + 1 - least) * c.channels;
  c.pixelwise = c.channels >= kLanes<T> || c.span > INT32_MAX;
  if (c.pixelwise) return;
  expand_samples(c);
  find_close_vectors(c);
}

// f(begin, vector) for whole vectors of [begin, end), the last of which may overlap its neighbour; single(i)
// where there are fewer numbers than lanes.
template <class T, class F, class Single>
GCV_HD void for_vectors(int64_t begin, int64_t end, F f, Single single) {
  constexpr int64_t lanes = kLanes<T>;
  if (end - begin < lanes) {
    for (int64_t i = begin; i < end; ++i) single(i);
    return;
  }
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) f(i);
  if (i < end) f(end - lanes);
}

// out = low + (high - low) * weight over [begin, end).
template <class T>
GCV_HD void blend(const T* low, const T* high, T weight, int64_t begin, int64_t end, T* out) {
  const Simd<T> w = splat(weight);
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4) {
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) store(out + i, crop_lerp(load(low + i), load(high + i), w));
    const __mmask16 rest = __mmask16((1u << (end - i)) - 1);
    const Simd<T> a = _mm512_maskz_loadu_ps(rest, low + i), b = _mm512_maskz_loadu_ps(rest, high + i);
    _mm512_mask_storeu_ps(out + i, rest, crop_lerp(a, b, w));
    return;
  }
#endif
  for_vectors<T>(
      begin, end, [&](int64_t i) { store(out + i, crop_lerp(load(low + i), load(high + i), w)); },
      [&](int64_t i) { out[i] = crop_lerp(low[i], high[i], weight); });
}

#ifdef __AVX512F__
// The lanes of two registers, side by side.
GCV_HD Simd<float> pick(Simd<float> low, Simd<float> high, const int32_t* lanes) {
  return _mm512_permutex2var_ps(low, _mm512_loadu_si512(lanes), high);
}

template <bool kNearest>
GCV_HD void resample_close(const float* row, const Columns<float>& c, float* out) {
  for (int64_t o = c.begin, v = 0; o < c.end; o += 16, ++v) {
    const float* from = row + c.places[v];
    const Simd<float> a = _mm512_maskz_loadu_ps(__mmask16(c.lanes[v]), from);
    const Simd<float> b = _mm512_maskz_loadu_ps(__mmask16(c.lanes[v] >> 16), from + 16);
    const Simd<float> left = pick(a, b, c.left + o);
    store(out + o, kNearest ? left : crop_lerp(left, pick(a, b, c.right + o), load(c.weights + o)));
  }
}

// Rows of a crop of no more than sixteen numbers, whose two source rows stay in registers.
struct NarrowRows {
  const float* source;  // the span of row 0 of the plane
  int64_t stride;       // from row to row
  float outside, mean, scale;
};

template <bool kNearest>
GCV_HD void crop_narrow(const NarrowRows& n, const Columns<float>& c, const CropSample<float>* rows,
                        int64_t height, float* out) {
  uint32_t bits = 0;
  for (int64_t x = c.begin; x < c.end; ++x) bits |= uint32_t(c.samples[x].inside) << x;
  const __mmask16 inside = __mmask16(bits), all = __mmask16((1u << c.count) - 1);
  const __m512i left = _mm512_maskz_loadu_epi32(inside, c.left),
                right = _mm512_maskz_loadu_epi32(inside, c.right);
  const Simd<float> weights = _mm512_maskz_loadu_ps(inside, c.weights);
  const __mmask16 near = c.end > c.begin ? __mmask16(c.lanes[0]) : 0,
                  far = c.end > c.begin ? c.lanes[0] >> 16 : 0;
  const float* source = n.source + (c.end > c.begin ? c.places[0] : 0);
  const auto fetch = [&](int64_t y) -> Simd<float> {
    const float* from = source + y * n.stride;
    const Simd<float> a = _mm512_maskz_loadu_ps(near, from), b = _mm512_maskz_loadu_ps(far, from + 16);
    const Simd<float> low = _mm512_permutex2var_ps(a, left, b);
    return kNearest ? low : crop_lerp(low, Simd<float>(_mm512_permutex2var_ps(a, right, b)), weights);
  };
  const Simd<float> outside = splat(n.outside), mean = splat(n.mean), scale = splat(n.scale);
  Simd<float> top{}, bottom{};
  int64_t low = -1, high = -1;
  for (int64_t i = 0; i < height; ++i, out += c.count) {
    Simd<float> value = outside;
    if (const CropSample<float> y = rows[i]; y.inside) {
      const auto held = [&](int64_t at) { return at == low ? top : at == high ? bottom : fetch(at); };
      const Simd<float> first = held(y.low), second = y.high == y.low ? first : held(y.high);
      top = first;
      bottom = second;
      low = y.low;
      high = y.high;
      value = kNearest ? top : crop_lerp(top, bottom, splat(y.weight));
      value = _mm512_mask_blend_ps(inside, outside, value);
    }
    _mm512_mask_storeu_ps(out, all, (value - mean) * scale);
  }
}

GCV_HD Simd<float> gather(const float* row, const int32_t* at) {
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, _mm512_loadu_si512(at), row, 4);
}
#elif defined(__AVX2__)
GCV_HD Simd<float> gather(const float* row, const int32_t* at) {
  const __m256 all = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  const __m256i lanes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), row, lanes, all, 4);
}
#endif

// A source row's span, to numbers [begin, end) of `out`, which has room for a vector more.
template <bool kNearest, class T>
GCV_HD void resample(const T* row, const Columns<T>& c, T* out) {
#ifdef __AVX2__
  if constexpr (sizeof(T) == 4) {
#ifdef __AVX512F__
    if (c.close) return resample_close<kNearest>(row, c, out);
#endif
    for (int64_t o = c.begin; o < c.end; o += kLanes<T>) {
      const Simd<T> left = gather(row, c.left + o);
      store(out + o, kNearest ? left : crop_lerp(left, gather(row, c.right + o), load(c.weights + o)));
    }
    return;
  }
#endif
  for (int64_t o = c.begin; o < c.end; ++o) {
    const T left = row[c.left[o]];
    out[o] = kNearest ? left : crop_lerp(left, row[c.right[o]], c.weights[o]);
  }
}

// The same, of all channels of a pixel at once.
template <bool kNearest, class T>
GCV_HD void resample_pixels(const T* row, const Columns<T>& c, T* out) {
  for (int64_t x = c.begin / c.channels; x < c.end / c.channels; ++x) {
    const CropSample<T> s = c.samples[x];
    if (!s.inside) continue;
    const T *left = row + (s.low * c.channels - c.first), *right = row + (s.high * c.channels - c.first);
    if constexpr (kNearest) {
      std::memcpy(out + x * c.channels, left, size_t(c.channels) * sizeof(T));
    } else {
      blend(left, right, s.weight, 0, c.channels, out + x * c.channels);
    }
  }
}

}  // namespace
}  // namespace gcv
