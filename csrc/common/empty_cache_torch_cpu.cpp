// The operator behind gencv_fast.empty_cache().
#include "common/torch_tensor.h"

namespace gcv {
namespace {

void empty_cache() { ResultPages::of_process().clear(); }

STABLE_TORCH_LIBRARY_IMPL(gencv_fast, CompositeExplicitAutograd, m) {
  m.impl("empty_cache", TORCH_BOX(&empty_cache));
}

}  // namespace
}  // namespace gcv
