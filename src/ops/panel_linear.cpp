#include "ops/panel_linear.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/step_clock.h"
#include "kernels/kernels.h"
#include "kernels/panels.h"
#include "ops/matrix_product.h"

namespace hadal {
namespace {

constexpr int64_t kRowsPerTask = 4096;  // of a kernel call; their codes stay in a cache
constexpr int64_t kNumbersPerTask = int64_t{16} << 10;
constexpr int64_t kTasksPerThread = 4;

int64_t parts_of(int64_t n, int64_t step) {
  return (n + step - 1) / step;
}

// Rows of x as codes, kept by each thread so that a step allocates nothing.
class Coded {
 public:
  CodedRows encode(WeightView x) {
    const int64_t rows = x.rows, groups = parts_of(x.cols, kPanelCols);
    const auto count = static_cast<size_t>(std::max<int64_t>(1, rows * groups));
    if (groups_.size() < count) groups_.resize(count);
    const Kernels& kernel = kernels();
    CodedGroup* to = groups_.data();  // the caller's, not each worker's
    const int64_t grain = std::max<int64_t>(1, kNumbersPerTask / std::max<int64_t>(1, x.cols));
    parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
      std::vector<float> wide(x.dtype == DType::kBF16 ? static_cast<size_t>(x.cols) : 0);
      for (int64_t r = begin; r < end; ++r) {
        const WeightView row = x.row_range(r, r + 1);
        const auto* numbers = static_cast<const float*>(row.data);
        if (x.dtype == DType::kBF16) {
          kernel.from_bf16_row(static_cast<const uint16_t*>(row.data), wide.data(), x.cols);
          numbers = wide.data();
        }
        kernel.code_row(numbers, x.cols, to + r * groups);
      }
    });
    return {to, nullptr};
  }

 private:
  std::vector<CodedGroup> groups_;
};

Coded& coded() {
  static thread_local Coded rows;
  return rows;
}

// Rows [first, first + count) of a product: where they begin, in codes and in y.
CodedRows rows_from(CodedRows x, int64_t first, int64_t groups) {
  if (x.rows != nullptr) {
    x.rows += first;
    return x;
  }
  x.groups += first * groups;
  return x;
}

struct Part {
  const WeightView* w;
  int64_t begin, end;    // panels
  int64_t first, count;  // rows of x and of y
};

void run_part(const Kernels& kernel, const Part& part, const CodedRows& x, In1 bias, Out2 y) {
  const WeightView& w = *part.w;
  const int64_t groups = parts_of(w.cols, kPanelCols), column = part.begin * kPanelRows;
  PanelProduct p;
  p.w = static_cast<const std::byte*>(w.data) + part.begin * groups * w.block_bytes;
  p.block_bytes = w.block_bytes;
  p.n = std::min(w.rows, part.end * kPanelRows) - column;
  p.k = w.cols;
  p.x = rows_from(x, part.first, groups);
  p.count = part.count;
  p.y = y.row(part.first) + column;
  p.y_stride = y.row_stride();
  kernel.panel_product(p);
  for (int64_t t = 0; !bias.empty() && t < part.count; ++t) {
    kernel.add_row(bias.data() + column, p.y + t * p.y_stride, p.n);
  }
}

// Long ranges of panels, for memory likes them; some more than threads, for threads lose time.
void cut(const WeightView& w, int64_t first, int64_t count, int64_t shares,
         std::vector<Part>& parts) {
  const int64_t panels = parts_of(w.rows, kPanelRows);
  const int64_t panel_bytes = std::max<int64_t>(1, parts_of(w.cols, kPanelCols) * w.block_bytes);
  const int64_t work = std::max<int64_t>(1, std::min<int64_t>(count, 16));
  const int64_t least = std::max<int64_t>(1, kSmallestRead / work / panel_bytes);
  const int64_t range = std::max(parts_of(panels, shares), least);
  for (int64_t r = 0; r < count; r += kRowsPerTask) {
    for (int64_t p = 0; p < panels; p += range) {
      parts.push_back(
          {&w, p, std::min(panels, p + range), first + r, std::min(kRowsPerTask, count - r)});
    }
  }
}

void run_parts(const std::vector<Part>& parts, const CodedRows& x, In1 bias, Out2 y) {
  const Kernels& kernel = kernels();
  parallel_tasks(static_cast<int64_t>(parts.size()),
                 [&](int64_t i) { run_part(kernel, parts[static_cast<size_t>(i)], x, bias, y); });
}

double work(const WeightView& w, int64_t rows) {
  return 2.0 * static_cast<double>(w.rows) * static_cast<double>(w.cols) *
         static_cast<double>(rows);
}

}  // namespace

void check_any_weight(const char* op, const char* name, const WeightView& w) {
  if (!in_panels(w)) return check_stored_weight(op, name, w);
  HADAL_CHECK(w.dtype == DType::kU8 &&
                  (w.block_bytes == kInt8BlockBytes || w.block_bytes == kInt4BlockBytes),
              kShape, op, ": ", name, " is of type ", dtype_name(w.dtype), " in blocks of ",
              w.block_bytes, " bytes, expected int8 or int4");
}

void panel_linear(WeightView x, WeightView w, In1 bias, Out2 y) {
  if (x.rows == 0 || w.rows == 0) return;
  const CodedRows rows = coded().encode(x);
  static thread_local std::vector<Part> parts;
  parts.clear();
  const int64_t threads = num_threads();
  cut(w, 0, x.rows, threads == 1 ? 1 : threads * kTasksPerThread, parts);
  count_flops(work(w, x.rows));
  run_parts(parts, rows, bias, y);
}

void grouped_panel_linear(WeightView x, ExpertRows rows, std::span<const WeightView> w, Out2 y) {
  CodedRows codes = coded().encode(x);
  if (!rows.tokens.empty()) codes.rows = rows.tokens.data();
  int64_t chosen = 0;
  for (size_t e = 0; e < w.size(); ++e) chosen += rows.offsets[e + 1] > rows.offsets[e] ? 1 : 0;
  if (chosen == 0) return;
  static thread_local std::vector<Part> parts;
  parts.clear();
  const int64_t threads = num_threads();
  const int64_t shares = threads == 1 ? 1 : parts_of(threads * kTasksPerThread, chosen);
  for (size_t e = 0; e < w.size(); ++e) {
    const int64_t first = rows.offsets[e], count = rows.offsets[e + 1] - first;
    if (count == 0) continue;
    cut(w[e], first, count, shares, parts);
    count_flops(work(w[e], count));
  }
  run_parts(parts, codes, {}, y);
}

}  // namespace hadal
