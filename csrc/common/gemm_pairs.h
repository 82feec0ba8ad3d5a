// Products of bf16 with sums in fp32, by instructions that multiply pairs: those of AVX512-BF16, or AMX's
// tiles. They come on top of the instruction set avx512; without them bf16 is widened. Free of torch.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/gemm.h"

namespace gcv {

inline constexpr int kPairRows = 32;
inline constexpr int kPairColumns = 32;
inline constexpr int kPairDepth = 32;

// As GemmTile, for up to kPairRows rows and kPairColumns columns. Columns of A are dense. B's panel holds
// pairs of rows, element (k, j) at (k / 2 * kPairColumns + j) * 2 + k % 2. Lengths of segments are multiples
// of kPairDepth: whoever packs fills up with zeros.
struct GemmPairTile {
  const BFloat16* a;
  int64_t a_row;
  const BFloat16* b;
  GemmSegments segments;
  float* c;
  int64_t c_row;
  int rows;
  bool add;
};

enum class PairUnit { none, avx512_bf16, amx };

// The best that this processor has, or what set_pair_unit or GENCV_FAST_BF16 asked for; none unless the
// instruction set in use is avx512.
PairUnit active_pair_unit();
// False, and nothing changes, where the processor, the system or the build lacks it.
bool set_pair_unit(PairUnit unit);
const char* pair_unit_name(PairUnit unit);

// Where it is false, bf16 is to be widened.
bool has_gemm_pairs();

// Multiplies tiles of pairs on the thread that made it. AMX's unit keeps its configuration, which takes as
// long as a short sum, until this goes: nobody else may configure the thread's tiles before.
class GemmPairs {
 public:
  GemmPairs();
  ~GemmPairs();
  GemmPairs(const GemmPairs&) = delete;
  GemmPairs& operator=(const GemmPairs&) = delete;

  void operator()(const GemmPairTile& tile) const { multiply_(tile); }

  // Rounds sums, of a multiple of kPairColumns numbers. Those too small for a normal number become zero, as
  // they do when the units add.
  void narrow(const float* sums, int64_t count, BFloat16* to) const;

 private:
  void (*multiply_)(const GemmPairTile& tile);  // null where there are none
};

namespace avx512_bf16 {
void gemm_pair_tile(const GemmPairTile& tile);
void narrow_sums(const float* sums, int64_t count, BFloat16* to);
}  // namespace avx512_bf16
namespace amx {
void gemm_pair_tile(const GemmPairTile& tile);
void release_tiles();
}  // namespace amx

}  // namespace gcv
