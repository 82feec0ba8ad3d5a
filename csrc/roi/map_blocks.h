// Between planes, as maps and results have them, and blocks: all channels of a pixel beside each other. Only
// *_cpu.cpp files of the room include this.
#pragma once

#include <string.h>

#include <type_traits>

#include "common/dtype.h"
#include "common/dtype_arrays.h"
#include "common/simd.h"
#include "common/transpose.h"

namespace gcv::GCV_ISA {
namespace {

// Several vectors of channels share the walk over a bin's pixels, whose short loops cost more than the
// maxima.
constexpr int kVectors = 4;
template <class T>
constexpr int64_t kBlock = kVectors * kLanes<T>;

// `count` pixels of `channels` planes.
template <class Element>
struct Planes {
  Element* data;
  int64_t channel, pixel;  // strides
};

// A square whose sides are vectors. Pixels of a plane are neighbours.
template <class Element>
GCV_HD void square_to_block(const Element* from, int64_t channel, ComputeOf<Element>* to) {
  using T = ComputeOf<Element>;
  Simd<T> v[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) v[i] = load_lanes(from + i * channel);
  transpose<T>(v);
  for (int i = 0; i < kLanes<T>; ++i) store(to + i * kBlock<T>, v[i]);
}

template <class Element>
GCV_HD void square_from_block(const ComputeOf<Element>* from, Element* to, int64_t channel) {
  using T = ComputeOf<Element>;
  Simd<T> v[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) v[i] = load(from + i * kBlock<T>);
  transpose<T>(v);
  for (int i = 0; i < kLanes<T>; ++i) store_lanes(to + i * channel, v[i]);
}

template <class Element>
void to_block(const Planes<const Element>& from, int64_t count, int64_t channels, ComputeOf<Element>* block) {
  using T = ComputeOf<Element>;
  constexpr int64_t lanes = kLanes<T>;
  const int64_t squares = from.pixel == 1 ? count / lanes * lanes : 0;
  const int64_t squared = from.pixel == 1 ? channels / lanes * lanes : 0;
  for (int64_t i = 0; i < squares; i += lanes) {
    for (int64_t c = 0; c < squared; c += lanes)
      square_to_block(from.data + c * from.channel + i, from.channel, block + i * kBlock<T> + c);
  }
  for (int64_t i = 0; i < count; ++i) {
    const Element* pixel = from.data + i * from.pixel;
    T* to = block + i * kBlock<T>;
    const int64_t first = i < squares ? squared : 0;
    if (from.channel == 1) {
      widen_all(pixel + first, channels - first, to + first);
    } else {
      for (int64_t c = first; c < channels; ++c) to[c] = widen(pixel[c * from.channel]);
    }
    for (int64_t c = channels; c < kBlock<T>; ++c) to[c] = 0;
  }
}

template <class Element>
void from_block(const ComputeOf<Element>* block, int64_t count, int64_t channels, const Planes<Element>& to) {
  using T = ComputeOf<Element>;
  constexpr int64_t lanes = kLanes<T>;
  const int64_t squares = to.pixel == 1 ? count / lanes * lanes : 0;
  const int64_t squared = to.pixel == 1 ? channels / lanes * lanes : 0;
  for (int64_t c = 0; c < squared; c += lanes) {
    for (int64_t i = 0; i < squares; i += lanes)
      square_from_block(block + i * kBlock<T> + c, to.data + c * to.channel + i, to.channel);
  }
  for (int64_t i = 0; i < count; ++i) {
    Element* pixel = to.data + i * to.pixel;
    const T* from = block + i * kBlock<T>;
    const int64_t first = i < squares ? squared : 0;
    if (to.channel == 1) {
      narrow_all(from + first, channels - first, pixel + first);
    } else {
      for (int64_t c = first; c < channels; ++c) narrow(from[c], pixel[c * to.channel]);
    }
  }
}

// To large results, past the caches: a line that is overwritten whole need not be read first. Call
// finish_streams before another thread may look.
GCV_HD void stream(void* to, const void* from, size_t bytes) {
  auto* target = static_cast<char*>(to);
  const auto* source = static_cast<const char*>(from);
#if defined(__x86_64__)
  const size_t ragged = (kVectorBytes - reinterpret_cast<uintptr_t>(target) % kVectorBytes) % kVectorBytes;
  const size_t head = ragged < bytes ? ragged : bytes;
  memcpy(target, source, head);
  size_t i = head;
  for (; i + kVectorBytes <= bytes; i += kVectorBytes) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target + i), _mm512_loadu_si512(source + i));
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i)));
#else
    _mm_stream_si128(reinterpret_cast<__m128i*>(target + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i)));
#endif
  }
  memcpy(target + i, source + i, bytes - i);
#else
  memcpy(target, source, bytes);
#endif
}

GCV_HD void finish_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// A rectangle of maps, from the channel, row and column that `data` points to. Calls run(planes, pixels,
// first pixel) for each run of pixels that one stride reaches.
template <class Element, class Run>
void for_each_run(Element* data, const int64_t (&strides)[4], int64_t height, int64_t width, const Run& run) {
  if (strides[2] == width * strides[3]) {
    width *= height;
    height = 1;
  }
  for (int64_t y = 0; y < height; ++y)
    run(Planes<Element>{data + y * strides[2], strides[1], strides[3]}, width, y * width);
}

template <class Element>
void maps_to_block(const Element* data, const int64_t (&strides)[4], int64_t height, int64_t width,
                   int64_t channels, ComputeOf<Element>* block) {
  for_each_run(data, strides, height, width, [&](const auto& planes, int64_t count, int64_t first) {
    to_block<Element>(planes, count, channels, block + first * kBlock<ComputeOf<Element>>);
  });
}

template <class Element>
void maps_from_block(const ComputeOf<Element>* block, int64_t height, int64_t width, int64_t channels,
                     Element* data, const int64_t (&strides)[4]) {
  for_each_run(data, strides, height, width, [&](const auto& planes, int64_t count, int64_t first) {
    from_block<Element>(block + first * kBlock<ComputeOf<Element>>, count, channels, planes);
  });
}

}  // namespace
}  // namespace gcv::GCV_ISA
