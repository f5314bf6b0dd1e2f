#include "cpu/matmul.h"

#include "cnncore/check.h"
#include "cnncore/registry.h"
#include "cnncore/threads.h"
#include "cpu/gemm.h"

namespace cnncore {
namespace {

// Products below this many multiply-adds are done one matrix per task.
constexpr index_t kSmallProduct = index_t{1} << 22;

template <class T>
MatrixView<T> matrix(const BatchedMatrix<T>& m, index_t offset) {
  const std::size_t rank = m.shape.size();
  return {m.data + offset, m.shape[rank - 2], m.shape[rank - 1], m.strides[rank - 2],
          m.strides[rank - 1]};
}

// Element offset of matrix `index` of the broadcast batch in one factor.
template <class T>
index_t batch_offset(const BatchedMatrix<T>& m, const std::vector<index_t>& shape, index_t index) {
  index_t offset = 0;
  const std::size_t rank = shape.size(), missing = rank - m.shape.size();
  for (std::size_t axis = rank - 2; axis-- > 0;) {
    const index_t i = index % shape[axis];
    index /= shape[axis];
    if (axis >= missing && m.shape[axis - missing] != 1) offset += i * m.strides[axis - missing];
  }
  return offset;
}

template <class T>
std::string shape_text(const BatchedMatrix<T>& m) {
  std::string text = "(";
  for (std::size_t axis = 0; axis < m.shape.size(); ++axis)
    text += (axis > 0 ? ", " : "") + std::to_string(m.shape[axis]);
  return text + ")";
}

}  // namespace

template <class T>
std::vector<index_t> matmul_shape(const BatchedMatrix<T>& a, const BatchedMatrix<T>& b) {
  const std::size_t rank_a = a.shape.size(), rank_b = b.shape.size();
  const std::size_t rank = rank_a > rank_b ? rank_a : rank_b;
  CNNCORE_REQUIRE(a.shape[rank_a - 1] == b.shape[rank_b - 2], "b",
                  "as many rows as a " + shape_text(a) + " has columns", shape_text(b),
                  "transpose one");
  std::vector<index_t> shape(rank, 1);
  for (std::size_t axis = 0; axis + 2 < rank; ++axis) {
    const index_t of_a = axis + rank_a >= rank ? a.shape[axis + rank_a - rank] : 1;
    const index_t of_b = axis + rank_b >= rank ? b.shape[axis + rank_b - rank] : 1;
    CNNCORE_REQUIRE(of_a == of_b || of_a == 1 || of_b == 1, "b",
                    "leading axes that broadcast with a " + shape_text(a), shape_text(b));
    shape[axis] = of_a == 1 ? of_b : of_a;
  }
  shape[rank - 2] = a.shape[rank_a - 2];
  shape[rank - 1] = b.shape[rank_b - 1];
  return shape;
}

CNNCORE_KERNEL(matmul);
template <class T>
void matmul(const BatchedMatrix<T>& a, const BatchedMatrix<T>& b, T* c) {
  const std::vector<index_t> shape = matmul_shape(a, b);
  const index_t rows = shape[shape.size() - 2], columns = shape.back(), depth = a.shape.back();
  index_t batch = 1;
  for (std::size_t axis = 0; axis + 2 < shape.size(); ++axis) batch *= shape[axis];
  if (batch == 0 || rows == 0 || columns == 0) return;
  const auto one = [&](index_t i) {
    gemm(matrix(a, batch_offset(a, shape, i)), matrix(b, batch_offset(b, shape, i)),
         c + i * rows * columns, columns, false);
  };
  const double products =
      static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(depth);
  if (products < static_cast<double>(kSmallProduct)) {
    const index_t work = static_cast<index_t>(products) / 16;
    parallel_for(batch, grain_for(work), [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) one(i);
    });
  } else {
    for (index_t i = 0; i < batch; ++i) one(i);
  }
}

template std::vector<index_t> matmul_shape(const BatchedMatrix<float>&,
                                           const BatchedMatrix<float>&);
template std::vector<index_t> matmul_shape(const BatchedMatrix<double>&,
                                           const BatchedMatrix<double>&);
template void matmul(const BatchedMatrix<float>&, const BatchedMatrix<float>&, float*);
template void matmul(const BatchedMatrix<double>&, const BatchedMatrix<double>&, double*);

}  // namespace cnncore
