// Backward. The gradient of the images: a task owns rows of them and takes the boxes in order, so no two
// tasks write one number, and sums have one order. A row of an image sums the rows of a crop that sample it,
// at the crop's width, and only then scatters them.
#include <algorithm>
#include <type_traits>

#include "roi/crop_columns.h"
#include "roi/crop_scatter.h"

namespace gcv::GCV_ISA {
namespace {

template <class T>
struct BackwardPlan {
  Columns<T> columns;
  CropSample<T>* rows;  // [height]
  T* summed[2];         // rows of the crop, for one row of the image each
  T* grad;              // row of the crop, converted
};

template <class T>
BackwardPlan<T> plan(Workspace& workspace, const CropBackwardParams& p) {
  const int64_t channels = p.channels_last ? p.crops.channels : 1;
  BackwardPlan<T> plan;
  plan.columns = take_columns<T>(workspace, p.crops.width, channels);
  plan.rows = workspace.take<CropSample<T>>(p.crops.height);
  for (T*& row : plan.summed) row = workspace.take<T>(padded<T>(plan.columns.count));
  plan.grad = workspace.take<T>(padded<T>(plan.columns.count));
  return plan;
}

template <class Element, class T>
class Gatherer {
 public:
  Gatherer(const CropBackwardParams& p, void* memory) : p_(p) {
    Workspace workspace(memory);
    plan_ = plan<T>(workspace, p);
    planes_ = p.channels_last ? 1 : p.crops.channels;
    row_size_ = p.channels_last ? p.width * p.crops.channels : p.width;
  }

  void run(int64_t begin, int64_t end) {
    for (int64_t image = begin / p_.height; image * p_.height < end; ++image) {
      first_row_ = std::max<int64_t>(begin - image * p_.height, 0);
      last_row_ = std::min<int64_t>(end - image * p_.height, p_.height);
      for (int64_t plane = 0; plane < planes_; ++plane) clear(image, plane);
      for (int64_t k = 0; k < p_.boxes.count; ++k) add_box(image, k);
      if constexpr (!std::is_same<Element, T>::value) {
        for (int64_t plane = 0; plane < planes_; ++plane) round_sums(image, plane);
      }
    }
  }

 private:
  int64_t place(int64_t image, int64_t plane, int64_t y) const {
    return ((image * planes_ + plane) * p_.height + y) * row_size_;
  }
  T* sums(int64_t image, int64_t plane, int64_t y) const {
    return static_cast<T*>(p_.sums) + place(image, plane, y);
  }
  int64_t owned() const { return (last_row_ - first_row_) * row_size_; }
  bool owns(int64_t y) const { return y >= first_row_ && y < last_row_; }

  void clear(int64_t image, int64_t plane) {
    T* out = sums(image, plane, first_row_);
    std::fill(out, out + owned(), T(0));
  }

  void round_sums(int64_t image, int64_t plane) {
    narrow_all(sums(image, plane, first_row_), owned(),
               static_cast<Element*>(p_.grad_images) + place(image, plane, first_row_));
  }

  void add_box(int64_t image, int64_t k) {
    const CropBox<T> box = read_crop_box<T>(p_.boxes, k, p_.number);
    if (!box.sound || box.image != image) return;
    const CropAxis<T> y = crop_axis(box.y1, box.y2, p_.crops.height, p_.height);
    bool touches = false;
    for (int64_t i = 0; i < p_.crops.height; ++i) {
      const CropSample<T> s = plan_.rows[i] = crop_sample(y, i, p_.nearest);
      touches = touches || (s.inside && (owns(s.low) || owns(s.high)));
    }
    if (!touches) return;
    Columns<T>& columns = plan_.columns;
    find_columns(crop_axis(box.x1, box.x2, p_.crops.width, p_.width), p_.nearest, columns);
    image_ = image;
    const Element* grad =
        static_cast<const Element*>(p_.crops.data) + k * planes_ * p_.crops.height * columns.count;
#ifdef __AVX512F__
    if constexpr (std::is_same<Element, float>::value) {
      if (NarrowScatter::serves(columns)) return add_narrow(grad);
    }
#endif
    for (plane_ = 0; plane_ < planes_; ++plane_, grad += p_.crops.height * columns.count) add_plane(grad);
  }

#ifdef __AVX512F__
  void add_narrow(const float* grad) {
    const Columns<float>& columns = plan_.columns;
    narrow_.prepare(columns);
    for (plane_ = 0; plane_ < planes_; ++plane_, grad += p_.crops.height * columns.count) {
      const float scale = p_.std ? 1 / float(p_.std[plane_]) : 1;
      sum_narrow_rows(narrow_, plan_.rows, p_.crops.height, columns.count, grad,
                      [&](int64_t y, Simd<float> sum) {
                        if (owns(y))
                          narrow_.add_to(sums(image_, plane_, y) + columns.first, sum * splat(scale));
                      });
    }
  }
#endif

  void add_plane(const Element* grad) {
    held_[0] = held_[1] = -1;
    for (int64_t i = 0; i < p_.crops.height; ++i, grad += plan_.columns.count) {
      const CropSample<T> y = plan_.rows[i];
      if (!y.inside) continue;
      // Rows of other tasks take their turns here too: what is held, and so the order of sums, must not
      // depend on where a task begins.
      const int low = hold(y.low, y.high), high = y.high == y.low ? low : hold(y.high, y.low);
      if (!owns(y.low) && !owns(y.high)) continue;
      const T* row = converted(grad);
      add_row(row, T(1) - y.weight, y.low, low);
      if (high != low) add_row(row, y.weight, y.high, high);
    }
    scatter(0);
    scatter(1);
  }

  int hold(int64_t y, int64_t other) {
    if (held_[0] == y) return 0;
    if (held_[1] == y) return 1;
    const int i = held_[0] == other ? 1 : 0;
    scatter(i);
    held_[i] = y;
    std::fill(plan_.summed[i], plan_.summed[i] + plan_.columns.count, T(0));
    return i;
  }

  const T* converted(const Element* grad) {
    if constexpr (std::is_same<Element, T>::value) {
      return grad;
    } else {
      widen_all(grad, plan_.columns.count, plan_.grad);
      return plan_.grad;
    }
  }

  void add_row(const T* row, T weight, int64_t y, int held) {
    if (!owns(y)) return;
    T* sum = plan_.summed[held];
    for (int64_t o = plan_.columns.begin; o < plan_.columns.end; ++o) sum[o] += row[o] * weight;
  }

  void scatter(int held) {
    if (held_[held] < 0 || !owns(held_[held])) return;
    T* row = sums(image_, plane_, held_[held]);
    T* from = plan_.summed[held];
    divide_by_std(from);
    const Columns<T>& c = plan_.columns;
    for (int64_t x = c.begin / c.channels; x < c.end / c.channels; ++x) {
      const CropSample<T> s = c.samples[x];
      if (!s.inside) continue;
      T *low = row + s.low * c.channels, *high = row + s.high * c.channels;
      const T* grad = from + x * c.channels;
      for (int64_t k = 0; k < c.channels; ++k) low[k] += (T(1) - s.weight) * grad[k];
      if (high != low) {
        for (int64_t k = 0; k < c.channels; ++k) high[k] += s.weight * grad[k];
      }
    }
  }

  void divide_by_std(T* row) const {
    const Columns<T>& c = plan_.columns;
    if (!p_.std) return;
    for (int64_t o = c.begin; o < c.end; ++o)
      row[o] *= T(1) / T(p_.std[c.channels > 1 ? o % c.channels : plane_]);
  }

  const CropBackwardParams& p_;
  BackwardPlan<T> plan_;
#ifdef __AVX512F__
  NarrowScatter narrow_;
#endif
  int64_t planes_, row_size_;
  int64_t first_row_ = 0, last_row_ = 0;
  int64_t image_ = 0, plane_ = 0;
  int64_t held_[2];
};

template <class Element>
void backward(const CropBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  Gatherer<Element, typename Compute<Element>::type>(p, workspace).run(begin, end);
}

// The gradient of a box's positions.
template <class Source, class Element, class T>
class BoxGradient {
 public:
  BoxGradient(const CropBoxesBackwardParams& p, int64_t k) : p_(p), k_(k) {
    box_ = read_crop_box<T>(p.boxes, k, p.images.number);
    y_ = crop_axis(box_.y1, box_.y2, p.grad.height, p.images.height);
    x_ = crop_axis(box_.x1, box_.x2, p.grad.width, p.images.width);
  }

  // (y1, x1, y2, x2)
  void sum(double (&total)[4]) const {
    if (!box_.sound) return;
    for (int64_t c = 0; c < p_.images.channels; ++c) {
      const double scale = p_.std ? 1.0 / p_.std[c] : 1.0;
      for (int64_t i = 0; i < p_.grad.height; ++i) {
        const CropSample<T> y = crop_sample(y_, i, false);
        if (y.inside) add_row(c, i, y, scale, total);
      }
    }
  }

 private:
  T pixel(int64_t c, int64_t y, int64_t x) const {
    const int64_t* s = p_.images.strides;
    return T(widen(
        static_cast<const Source*>(p_.images.data)[box_.image * s[0] + c * s[1] + y * s[2] + x * s[3]]));
  }

  void add_row(int64_t c, int64_t i, const CropSample<T>& y, double scale, double (&total)[4]) const {
    const int64_t* s = p_.grad.strides;
    const Element* grad = static_cast<const Element*>(p_.grad.data) + k_ * s[0] + c * s[1] + i * s[2];
    double of_y = 0, of_x1 = 0, of_x2 = 0;
    for (int64_t j = 0; j < p_.grad.width; ++j) {
      const CropSample<T> x = crop_sample(x_, j, false);
      if (!x.inside) continue;
      const T top_left = pixel(c, y.low, x.low), top_right = pixel(c, y.low, x.high);
      const T bottom_left = pixel(c, y.high, x.low), bottom_right = pixel(c, y.high, x.high);
      const T g = T(widen(grad[j * s[3]]));
      const T along_x = g * crop_lerp(top_right - top_left, bottom_right - bottom_left, y.weight);
      T of_first, of_last;
      crop_position_slopes(x_, j, of_first, of_last);
      of_y += double(g * crop_lerp(bottom_left - top_left, bottom_right - top_right, x.weight));
      of_x1 += double(along_x * of_first);
      of_x2 += double(along_x * of_last);
    }
    T of_first, of_last;
    crop_position_slopes(y_, i, of_first, of_last);
    total[0] += scale * of_y * double(of_first);
    total[1] += scale * of_x1;
    total[2] += scale * of_y * double(of_last);
    total[3] += scale * of_x2;
  }

  const CropBoxesBackwardParams& p_;
  const int64_t k_;
  CropBox<T> box_;
  CropAxis<T> y_, x_;
};

template <class Element>
void store_box(const double (&total)[4], void* grad_boxes, int64_t k) {
  using Wide = typename Compute<Element>::type;
  for (int i = 0; i < 4; ++i) narrow(Wide(total[i]), static_cast<Element*>(grad_boxes)[4 * k + i]);
}

template <class Source, class Element, class T>
void boxes_backward(const CropBoxesBackwardParams& p, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) {
    double total[4] = {};
    BoxGradient<Source, Element, T>(p, k).sum(total);
    GCV_BY_DTYPE(p.boxes.dtype, store_box, total, p.grad_boxes, k);
  }
}

template <class Element>
void boxes_backward_same(const CropBoxesBackwardParams& p, int64_t begin, int64_t end) {
  boxes_backward<Element, Element, typename Compute<Element>::type>(p, begin, end);
}

}  // namespace

size_t crop_backward_workspace_bytes(const CropBackwardParams& p) {
  Workspace counter(nullptr);
  if (p.dtype == DType::f64) {
    plan<double>(counter, p);
  } else {
    plan<float>(counter, p);
  }
  return counter.used();
}

void crop_and_resize_backward_cpu(const CropBackwardParams& p, void* workspace, int64_t begin, int64_t end) {
  GCV_BY_DTYPE(p.dtype, backward, p, workspace, begin, end);
}

void crop_and_resize_boxes_backward_cpu(const CropBoxesBackwardParams& p, int64_t begin, int64_t end) {
  if (!p.bytes) {
    GCV_BY_DTYPE(p.dtype, boxes_backward_same, p, begin, end);
  } else if (p.boxes.dtype == DType::f64) {
    boxes_backward<Byte, float, double>(p, begin, end);
  } else {
    boxes_backward<Byte, float, float>(p, begin, end);
  }
}

}  // namespace gcv::GCV_ISA
