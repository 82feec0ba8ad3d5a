// Reads one box of any dtype and strides.
#pragma once

#include "common/box.h"
#include "common/dtype.h"

namespace gcv {

template <class Element, class Params>
GCV_HD Box<typename Compute<Element>::type> box_at(const Element* boxes, const Params& p, int64_t index) {
  const Element* e = boxes + index * p.box_stride;
  return {widen(e[0]), widen(e[p.coord_stride]), widen(e[2 * p.coord_stride]), widen(e[3 * p.coord_stride])};
}

}  // namespace gcv
