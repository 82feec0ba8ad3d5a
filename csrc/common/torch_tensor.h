// Small bridges between torch's stable ABI and the kernels' plain types. Only *_torch_*.cpp files include
// this.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "common/dtype.h"
#include "common/result_pages.h"

namespace gcv {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class... Pieces>
[[noreturn]] void fail(const Pieces&... pieces) {
  std::ostringstream sentence;
  (sentence << ... << pieces);
  throw std::runtime_error(sentence.str());
}

// Raises RuntimeError in Python with a whole sentence made of the pieces. STD_TORCH_CHECK would put a source
// path first.
#define GCV_REQUIRE(condition, ...)             \
  do {                                          \
    if (!(condition)) ::gcv::fail(__VA_ARGS__); \
  } while (false)

inline std::string dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "torch.float32";
    case ScalarType::Double:
      return "torch.float64";
    case ScalarType::Half:
      return "torch.float16";
    case ScalarType::BFloat16:
      return "torch.bfloat16";
    case ScalarType::Bool:
      return "torch.bool";
    case ScalarType::Byte:
      return "torch.uint8";
    case ScalarType::Char:
      return "torch.int8";
    case ScalarType::Short:
      return "torch.int16";
    case ScalarType::Int:
      return "torch.int32";
    case ScalarType::Long:
      return "torch.int64";
    case ScalarType::UInt16:
      return "torch.uint16";
    case ScalarType::UInt32:
      return "torch.uint32";
    case ScalarType::UInt64:
      return "torch.uint64";
    case ScalarType::ComplexHalf:
      return "torch.complex32";
    case ScalarType::ComplexFloat:
      return "torch.complex64";
    case ScalarType::ComplexDouble:
      return "torch.complex128";
    case ScalarType::Float8_e5m2:
      return "torch.float8_e5m2";
    case ScalarType::Float8_e4m3fn:
      return "torch.float8_e4m3fn";
    default:
      return "dtype number " + std::to_string(int(type));
  }
}

inline bool is_kernel_dtype(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

inline DType kernel_dtype(ScalarType type) {
  switch (type) {
    case ScalarType::Double:
      return DType::f64;
    case ScalarType::Half:
      return DType::f16;
    case ScalarType::BFloat16:
      return DType::bf16;
    default:
      return DType::f32;
  }
}

using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;
using Shape = std::vector<int64_t>;

inline std::string shape_text(Sizes shape) {
  std::string text = "[";
  for (size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

inline std::string shape_text(const Tensor& t) { return shape_text(t.sizes()); }

inline std::string device_text(const Tensor& t) {
  return t.is_cpu() ? "cpu" : t.is_cuda() ? "cuda:" + std::to_string(t.get_device()) : "another device";
}

inline bool same_device(const Tensor& a, const Tensor& b) {
  return a.is_cpu() == b.is_cpu() && a.get_device() == b.get_device();
}

inline int64_t bytes_of(const Tensor& t) { return t.numel() * int64_t(t.element_size()); }

// Threads that meet in a fresh huge page would each clear one. So each is taken by one thread beforehand.
inline void touch_pages(const ResultBlock& block) {
  auto* data = static_cast<volatile char*>(block.data);
  torch::stable::parallel_for(0, int64_t(block.bytes / kHugePage), 1, [&](int64_t begin, int64_t end) {
    for (int64_t page = begin; page < end; ++page) data[page * int64_t(kHugePage)] = 0;
  });
}

inline int64_t bytes_of(Sizes shape, ScalarType type) {
  using torch::stable::detail::from, torch::stable::detail::to;
  auto bytes = int64_t(aoti_torch_dtype_element_size(to<int32_t>(from(type))));
  for (const int64_t size : shape) bytes *= size;
  return bytes;
}

// A dense tensor in pages that an earlier result has left, if it is large; nothing if it is not.
inline std::optional<Tensor> in_kept_pages(const Tensor& like, Sizes shape, Sizes strides, ScalarType type) {
  const int64_t bytes = bytes_of(shape, type);
  if (!like.is_cpu() || bytes < int64_t(ResultPages::kSmallest)) return std::nullopt;
  const ResultBlock block = ResultPages::of_process().take(size_t(bytes));
  if (block.data == nullptr) return std::nullopt;  // torch has words of its own for that
  if (block.is_fresh) touch_pages(block);
  return torch::stable::from_blob(block.data, shape, strides, like.device(), type,
                                  [block](void*) { ResultPages::of_process().give_back(block); });
}

// For results that a kernel is about to fill and that may be large.
inline Tensor new_output(const Tensor& like, Sizes shape, std::optional<ScalarType> type = std::nullopt) {
  Shape strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * std::max<int64_t>(1, shape[d]);
  const auto large = in_kept_pages(like, shape, strides, type.value_or(like.scalar_type()));
  return large ? *large : torch::stable::new_empty(like, shape, type);
}

// The same, lying in memory as `like` does.
inline Tensor new_output_like(const Tensor& like) {
  const Tensor empty = torch::stable::empty_like(like);
  const auto large = in_kept_pages(like, like.sizes(), empty.strides(), like.scalar_type());
  return large ? *large : empty;
}

// Sentences of bad input that rooms share, word for word those of gencv_fast/_checks.py.

inline void require_float(const char* op, std::string_view name, const Tensor& t) {
  GCV_REQUIRE(is_kernel_dtype(t.scalar_type()), op, ": ", name,
              " must be float16, bfloat16, float32 or float64, got ", dtype_name(t.scalar_type()), ".");
}

inline void require_dtype(const char* op, std::string_view name, const Tensor& t, std::string_view of,
                          ScalarType type) {
  GCV_REQUIRE(t.scalar_type() == type, op, ": ", name, " must have the dtype of ", of, " (", dtype_name(type),
              "), got ", dtype_name(t.scalar_type()), ".");
}

inline void require_device(const char* op, std::string_view name, const Tensor& t, std::string_view of,
                           const Tensor& like) {
  GCV_REQUIRE(same_device(t, like), op, ": ", name, " must be on the device of ", of, " (", device_text(like),
              "), got ", device_text(t), ".");
}

// The dtype and the device of another argument.
inline void require_like(const char* op, std::string_view name, const Tensor& t, std::string_view of,
                         const Tensor& like) {
  require_dtype(op, name, t, of, like.scalar_type());
  require_device(op, name, t, of, like);
}

// The shape of another argument, or of the result.
inline void require_same_shape(const char* op, std::string_view name, const Tensor& t, std::string_view of,
                               Sizes shape) {
  GCV_REQUIRE(t.sizes() == shape, op, ": ", name, " must have the shape of ", of, " (", shape_text(shape),
              "), got ", shape_text(t), ".");
}

}  // namespace gcv
