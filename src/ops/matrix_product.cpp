#include "ops/matrix_product.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "core/step_clock.h"

namespace hadal {
namespace {

// A block of C repays packing its rows of A and columns of B when both are many.
constexpr int64_t kComfortableRows = 252, kComfortableCols = 256;
// Blocks begin at multiples of these: whole tiles in every kernel family.
constexpr int64_t kRowStep = 84, kColStep = 32;
// More blocks than threads, so that a thread that lost time to others does not hold up the rest.
constexpr int64_t kBlocksPerThread = 4;
constexpr double kSmallestBlock = 0.5e6;  // multiply-adds worth waking a thread for: some 10 us

std::atomic<int64_t>& held_bytes() {
  static std::atomic<int64_t> bytes{0};
  return bytes;
}

class PackingMemory {
 public:
  PackingMemory() = default;
  PackingMemory(const PackingMemory&) = delete;
  PackingMemory& operator=(const PackingMemory&) = delete;
  ~PackingMemory() { held_bytes() -= buffer_.bytes(); }
  std::byte* get(int64_t bytes) {
    if (bytes > buffer_.bytes()) {
      Buffer larger(bytes);
      held_bytes() += larger.bytes() - buffer_.bytes();
      buffer_ = std::move(larger);
    }
    return buffer_.data();
  }

 private:
  Buffer buffer_;
};

PackingMemory& packing_memory() {
  static thread_local PackingMemory memory;
  return memory;
}

struct Block {
  const Product* product;
  int64_t i0, i1, j0, j1;
};

double work(const Gemm& g) {
  return static_cast<double>(g.m) * static_cast<double>(g.n) *
         static_cast<double>(std::max<int64_t>(g.k, 1));
}

// [lane, ...) of an operand; its lanes are stored rows or stored columns.
GemmOperand from_lane(GemmOperand x, bool lanes_are_rows, int64_t lane) {
  if (lanes_are_rows && x.rows != nullptr) {
    x.rows += lane;
  } else {
    const int64_t elements = lane * (lanes_are_rows ? x.stride : 1);
    x.data = static_cast<const std::byte*>(x.data) + elements * x.element_bytes();
    x.scales.first_lane += lane;
  }
  return x;
}

void run_block(const Kernels& kernel, const Block& b) {
  Gemm g = b.product->gemm;
  g.a = from_lane(g.a, g.op != GemmOp::kTN, b.i0);
  g.b = from_lane(g.b, g.op == GemmOp::kNT, b.j0);
  g.c += b.i0 * g.c_stride + b.j0;
  g.m = b.i1 - b.i0;
  g.n = b.j1 - b.j0;
  kernel.gemm(g, packing_memory().get(kernel.gemm_workspace(g)));
  for (int64_t i = 0; b.product->bias != nullptr && i < g.m; ++i) {
    kernel.add_row(b.product->bias + b.j0, g.c + i * g.c_stride, g.n);
  }
}

// Cuts C into at least `parts` blocks where it can, packing as little as possible twice: with p
// parts of rows and q of columns, A is packed q times and B p times.
void cut(const Product& product, int64_t parts, std::vector<Block>& blocks) {
  const int64_t m = product.gemm.m, n = product.gemm.n;
  const int64_t most_p = std::max<int64_t>(1, m / (kRowStep / 2));
  const int64_t most_q = std::max<int64_t>(1, n / kColStep);
  int64_t p = most_p, q = most_q, least = p * n + q * m;
  for (int64_t try_q = 1; try_q <= std::min(parts, most_q); ++try_q) {
    const int64_t try_p = (parts + try_q - 1) / try_q, packed = try_p * n + try_q * m;
    if (try_p <= most_p && packed < least) p = try_p, q = try_q, least = packed;
  }
  const auto step_of = [](int64_t size, int64_t count, int64_t multiple) {
    const int64_t even = (size + count - 1) / count;
    return count == 1 ? size : (even + multiple - 1) / multiple * multiple;
  };
  const int64_t rows = step_of(m, p, kRowStep), cols = step_of(n, q, kColStep);
  for (int64_t j = 0; j < n; j += cols) {
    for (int64_t i = 0; i < m; i += rows) {
      blocks.push_back({&product, i, std::min(i + rows, m), j, std::min(j + cols, n)});
    }
  }
}

}  // namespace

GemmOperand operand(WeightView w) {
  GemmOperand x{.data = w.data, .stride = w.row_stride, .bf16 = w.dtype == DType::kBF16};
  x.fp16 = w.dtype == DType::kF16;
  x.codes = w.dtype == DType::kF8E4M3;
  if (x.codes) x.scales = {w.scales, w.scale_stride(), 1, kFp8BlockRows, w.scale_row};
  return x;
}

void check_size(const char* op, const char* name, WeightView x, int64_t rows, int64_t cols) {
  HADAL_CHECK(x.rows == rows && x.cols == cols, kShape, op, ": ", name, " is [", x.rows, ", ",
              x.cols, "], expected [", rows, ", ", cols, "]");
}
void check_weight(const char* op, const char* name, WeightView w) {
  HADAL_CHECK(w.dtype == DType::kF32 || w.dtype == DType::kBF16, kShape, op, ": ", name,
              " is of type ", dtype_name(w.dtype), ", expected F32 or BF16");
}
void check_stored_weight(const char* op, const char* name, const WeightView& w) {
  if (w.dtype == DType::kF8E4M3) {
    HADAL_CHECK(w.scales != nullptr && w.scale_row >= 0, kShape, op, ": ", name,
                " is of type F8_E4M3 without scales");
    return;
  }
  if (w.dtype != DType::kF16) check_weight(op, name, w);
}

int64_t packing_bytes() {
  return held_bytes();
}

void run_products(std::span<const Product> products) {
  const int64_t threads = num_threads();
  double total = 0;
  for (const Product& p : products) {
    total += work(p.gemm);
    count_flops(2 * work(p.gemm));
  }
  const double share = std::max(total / static_cast<double>(threads), kSmallestBlock);

  static thread_local std::vector<Block> blocks;  // kept, so that a step allocates nothing
  blocks.clear();
  for (const Product& p : products) {
    if (p.gemm.m == 0 || p.gemm.n == 0) continue;
    const double shares = work(p.gemm) / share;
    const auto needed = static_cast<int64_t>(shares + 0.999);
    const auto wanted = int64_t{std::llround(shares * kBlocksPerThread)};
    const int64_t comfortable = (p.gemm.m / kComfortableRows) * (p.gemm.n / kComfortableCols);
    const int64_t parts = std::max(needed, std::min(wanted, comfortable));
    cut(p, threads == 1 ? 1 : std::max<int64_t>(parts, 1), blocks);
  }
  const Kernels& kernel = kernels();
  const std::vector<Block>& all = blocks;  // the caller's, not each worker's
  parallel_tasks(static_cast<int64_t>(all.size()),
                 [&](int64_t i) { run_block(kernel, all[static_cast<size_t>(i)]); });
}

}  // namespace hadal
