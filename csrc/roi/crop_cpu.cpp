// Forward. Along each axis the same columns and rows serve a whole box, so a row of a crop is two source rows
// resampled to the crop's width, which its neighbours often share, and then blended.
#include <type_traits>

#include "roi/crop_columns.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
struct Plan {
  Columns<T> columns;
  CropSample<T>* rows;  // [height]
  T* resampled[2];      // source rows at the crop's width
  T* source;            // span of a source row, converted
  T* result;            // row of a crop, before it is narrowed
  T *mean, *scale;      // by number of a row, where channels are interleaved
};

template <class T>
Plan<T> plan(Workspace& workspace, const CropParams& p) {
  const int64_t channels = p.channels_last ? p.images.channels : 1;
  Plan<T> plan;
  plan.columns = take_columns<T>(workspace, p.width, channels);
  const int64_t room = padded<T>(p.width * channels);
  plan.rows = workspace.take<CropSample<T>>(p.height);
  for (T*& row : plan.resampled) row = workspace.take<T>(room);
  plan.source = workspace.take<T>(p.images.width * channels);
  plan.result = workspace.take<T>(room);
  plan.mean = workspace.take<T>(room);
  plan.scale = workspace.take<T>(room);
  return plan;
}

template <class Source, class Out, class T>
class Cropper {
 public:
  Cropper(const CropParams& p, void* memory) : p_(p), nothing_outside_(T(p.extrapolation_value)) {
    Workspace workspace(memory);
    plan_ = plan<T>(workspace, p);
    normalises_ = p.mean || p.std;
    if (normalises_ && p.channels_last) {
      for (int64_t o = 0; o < plan_.columns.count; ++o) {
        plan_.mean[o] = mean_of(o % p.images.channels);
        plan_.scale[o] = scale_of(o % p.images.channels);
      }
    }
  }

  void run(int64_t begin, int64_t end) {
    const int64_t planes = crop_planes(p_), chunks = crop_chunks(p_);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t chunk = item % chunks, plane = item / chunks % planes, k = item / chunks / planes;
      if (k != box_) enter_box(k);
      const int64_t first = chunks == 1 ? 0 : chunk * kCropRowsPerItem;
      const int64_t last =
          chunks == 1 || first + kCropRowsPerItem > p_.height ? p_.height : first + kCropRowsPerItem;
      Out* out =
          static_cast<Out*>(p_.crops) + ((k * planes + plane) * p_.height + first) * plan_.columns.count;
      if (!sound_) {
        fill(out, (last - first) * plan_.columns.count);
      } else if (p_.nearest) {
        crop_plane<true>(plane, first, last, out);
      } else {
        crop_plane<false>(plane, first, last, out);
      }
    }
  }

 private:
  T mean_of(int64_t channel) const { return p_.mean ? T(p_.mean[channel]) : T(0); }
  T scale_of(int64_t channel) const { return p_.std ? T(1) / T(p_.std[channel]) : T(1); }

  void fill(Out* out, int64_t count) const {
    Out nan;
    narrow(T(NAN), nan);
    for (int64_t i = 0; i < count; ++i) out[i] = nan;
  }

  void enter_box(int64_t k) {
    const CropBox<T> box = read_crop_box<T>(p_.boxes, k, p_.images.number);
    box_ = k;
    sound_ = box.sound;
    if (!sound_) return;
    image_ = static_cast<const Source*>(p_.images.data) + box.image * p_.images.strides[0];
    find_columns(crop_axis(box.x1, box.x2, p_.width, p_.images.width), p_.nearest, plan_.columns);
    const CropAxis<T> y = crop_axis(box.y1, box.y2, p_.height, p_.images.height);
    for (int64_t i = 0; i < p_.height; ++i) plan_.rows[i] = crop_sample(y, i, p_.nearest);
  }

  template <bool kNearest>
  void crop_plane(int64_t plane, int64_t first, int64_t last, Out* out) {
#ifdef __AVX512F__
    if constexpr (std::is_same<Source, float>::value) {
      if (is_narrow()) {
        const NarrowRows rows{image_ + plane * p_.images.strides[1] + plan_.columns.first,
                              p_.images.strides[2], nothing_outside_, mean_of(plane), scale_of(plane)};
        return crop_narrow<kNearest>(rows, plan_.columns, plan_.rows + first, last - first, out);
      }
    }
#endif
    held_[0] = held_[1] = -1;
    for (int64_t i = first; i < last; ++i, out += plan_.columns.count) {
      T* result = plan_.result;
      if constexpr (std::is_same<Out, T>::value) result = out;
      const CropSample<T> y = plan_.rows[i];
      if (y.inside) {
        const T* top = resampled_row<kNearest>(plane, y.low, y.high);
        const T* bottom = y.high == y.low ? top : resampled_row<kNearest>(plane, y.high, y.low);
        finish<kNearest>(top, bottom, y.weight, result);
      } else {
        for (int64_t o = 0; o < plan_.columns.count; ++o) result[o] = nothing_outside_;
      }
      if (normalises_) normalise(plane, result);
      if constexpr (!std::is_same<Out, T>::value) narrow_all(result, plan_.columns.count, out);
    }
  }

  bool is_narrow() const {
    const Columns<T>& c = plan_.columns;
    return !p_.channels_last && p_.images.strides[3] == 1 && c.count <= 16 && !c.pixelwise && c.close;
  }

  // Kept for the next row of the crop, instead of the one that is not `other`.
  template <bool kNearest>
  const T* resampled_row(int64_t plane, int64_t y, int64_t other) {
    if (held_[0] == y) return plan_.resampled[0];
    if (held_[1] == y) return plan_.resampled[1];
    const int i = held_[0] == other ? 1 : 0;
    held_[i] = y;
    const T* source = source_row(plane, y);
    if (plan_.columns.pixelwise) {
      resample_pixels<kNearest>(source, plan_.columns, plan_.resampled[i]);
    } else {
      resample<kNearest>(source, plan_.columns, plan_.resampled[i]);
    }
    return plan_.resampled[i];
  }

  // The span of a source row, in place where it can be read as it is.
  const T* source_row(int64_t plane, int64_t y) const {
    const Source* row = image_ + plane * p_.images.strides[1] + y * p_.images.strides[2];
    const int64_t stride = p_.channels_last ? 1 : p_.images.strides[3], span = plan_.columns.span;
    row += plan_.columns.first * stride;
    if constexpr (std::is_same<Source, T>::value) {
      if (stride == 1) return row;
    }
    if (stride == 1) {
      widen_all(row, span, plan_.source);
    } else {
      for (int64_t i = 0; i < span; ++i) plan_.source[i] = widen(row[i * stride]);
    }
    return plan_.source;
  }

  template <bool kNearest>
  void finish(const T* top, const T* bottom, T weight, T* result) const {
    const Columns<T>& c = plan_.columns;
    for (int64_t o = 0; o < c.begin; ++o) result[o] = nothing_outside_;
    if constexpr (kNearest) {
      if (c.begin < c.end) std::memcpy(result + c.begin, top + c.begin, size_t(c.end - c.begin) * sizeof(T));
    } else {
      blend(top, bottom, weight, c.begin, c.end, result);
    }
    for (int64_t o = c.end; o < c.count; ++o) result[o] = nothing_outside_;
    if (!c.gaps) return;
    for (int64_t o = c.begin; o < c.end; ++o) {
      if (!c.samples[o / c.channels].inside) result[o] = nothing_outside_;
    }
  }

  void normalise(int64_t plane, T* row) const {
    const int64_t count = plan_.columns.count;
    if (p_.channels_last) {
      for (int64_t o = 0; o < count; ++o) row[o] = (row[o] - plan_.mean[o]) * plan_.scale[o];
    } else {
      const T mean = mean_of(plane), scale = scale_of(plane);
      for (int64_t o = 0; o < count; ++o) row[o] = (row[o] - mean) * scale;
    }
  }

  const CropParams& p_;
  const T nothing_outside_;
  Plan<T> plan_;
  bool normalises_;
  int64_t box_ = -1;
  bool sound_ = false;
  const Source* image_ = nullptr;
  int64_t held_[2];
};

template <class Source, class Out, class T>
void crop(const CropParams& p, void* workspace, int64_t begin, int64_t end) {
  Cropper<Source, Out, T>(p, workspace).run(begin, end);
}

template <class Element>
void crop_same(const CropParams& p, void* workspace, int64_t begin, int64_t end) {
  crop<Element, Element, typename Compute<Element>::type>(p, workspace, begin, end);
}

bool in_double(const CropParams& p) { return (p.bytes ? p.boxes.dtype : p.dtype) == DType::f64; }

}  // namespace

size_t crop_workspace_bytes(const CropParams& p) {
  Workspace counter(nullptr);
  if (in_double(p)) {
    plan<double>(counter, p);
  } else {
    plan<float>(counter, p);
  }
  return counter.used();
}

void crop_and_resize_cpu(const CropParams& p, void* workspace, int64_t begin, int64_t end) {
  if (!p.bytes) {
    GCV_BY_DTYPE(p.dtype, crop_same, p, workspace, begin, end);
  } else if (in_double(p)) {
    crop<Byte, float, double>(p, workspace, begin, end);
  } else {
    crop<Byte, float, float>(p, workspace, begin, end);
  }
}

}  // namespace gcv::GCV_ISA
