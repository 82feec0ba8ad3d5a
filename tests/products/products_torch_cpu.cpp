// Brings the plain product of common/gemm.h before benchmarks and tests; the package itself has no such
// operator.
#include "common/gemm.h"
#include "common/share_out.h"

namespace gcv {
namespace {

// A thread is worth waking for this many multiplications.
constexpr int64_t kProductsPerThread = int64_t(1) << 18;

struct Strided {
  const Tensor& t;
  // Of a matrix of the batch.
  const void* at(int64_t i) const {
    return static_cast<const char*>(t.const_data_ptr()) + i * t.stride(0) * int64_t(t.element_size());
  }
};

// c[i] = a[i] b[i], with c in float32, or in float64 for that.
void products(const Tensor& a, const Tensor& b, const Tensor& c) {
  const auto product = [&](int64_t i) {
    return GemmParams{Strided{a}.at(i),
                      a.stride(1),
                      a.stride(2),
                      Strided{b}.at(i),
                      b.stride(1),
                      b.stride(2),
                      const_cast<void*>(Strided{c}.at(i)),
                      c.stride(1),
                      a.size(1),
                      b.size(2),
                      a.size(2),
                      kernel_dtype(a.scalar_type())};
  };
  const GemmParams first = product(0);
  const int64_t useful = 1 + a.size(0) * first.m * first.n * first.k / kProductsPerThread;
  const int64_t threads = std::min<int64_t>(useful, torch::stable::get_num_threads());
  const GemmCuts cuts = gemm_cuts_cpu(first, a.size(0) % threads == 0 ? 1 : threads);
  const int64_t blocks = cuts.row_blocks * cuts.column_blocks;
  share_out(a.size(0) * blocks, 1, useful, gemm_scratch_cpu(first, cuts),
            [&](void* scratch, int64_t begin, int64_t end) {
              for (int64_t item = begin; item < end; ++item)
                gemm_cpu(product(item / blocks), cuts, scratch, item % blocks, item % blocks + 1);
            });
}

STABLE_TORCH_LIBRARY_FRAGMENT(gencv_fast_products, m) {
  m.def("products(Tensor a, Tensor b, Tensor(c!) c) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gencv_fast_products, CPU, m) { m.impl("products", TORCH_BOX(&products)); }

}  // namespace
}  // namespace gcv
