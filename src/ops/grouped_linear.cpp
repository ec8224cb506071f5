#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/step_clock.h"
#include "kernels/kernels.h"
#include "ops/decode_rows.h"
#include "ops/fp8.h"
#include "ops/linear.h"
#include "ops/matrix_product.h"
#include "ops/panel_linear.h"

namespace hadal {
namespace {

constexpr int64_t kSmallestExpertRead = 128 << 10;  // bytes of weights worth a task of their own

int64_t expert_count(ExpertRows rows) {
  return static_cast<int64_t>(rows.offsets.size()) - 1;
}
int64_t begin_of(ExpertRows rows, int64_t e) {
  return rows.offsets[static_cast<size_t>(e)];
}
int64_t slots_of(ExpertRows rows, int64_t e) {
  return begin_of(rows, e + 1) - begin_of(rows, e);
}
int64_t all_slots(ExpertRows rows) {
  return rows.offsets.back();
}

// Also checks that every listed row exists: kernels read what the list says.
void check_rows(const char* op, WeightView x, ExpertRows rows) {
  HADAL_CHECK(!rows.offsets.empty() && rows.offsets[0] == 0, kShape, op,
              ": offsets has no entries or does not start at 0");
  for (int64_t e = 0; e < expert_count(rows); ++e) {
    HADAL_CHECK(slots_of(rows, e) >= 0, kShape, op, ": offsets fall from ", begin_of(rows, e),
                " to ", begin_of(rows, e + 1), " at expert ", e);
  }
  if (rows.tokens.empty()) {
    if (all_slots(rows) == 0) return;  // an empty list may have no address
    HADAL_CHECK(x.rows == all_slots(rows), kShape, op, ": x has ", x.rows,
                " rows, expected one for each of ", all_slots(rows), " slots");
    return;
  }
  HADAL_CHECK(rows.tokens.dim(0) == all_slots(rows), kShape, op, ": tokens has ",
              rows.tokens.dim(0), " entries, expected ", all_slots(rows), ", one for each slot");
  for (int64_t s = 0; s < all_slots(rows); ++s) {
    const int32_t t = rows.tokens.data()[s];
    HADAL_CHECK(t >= 0 && t < x.rows, kShape, op, ": tokens[", s, "] is ", t,
                ", expected a row of x below ", x.rows);
  }
}

// All experts of one shape, which is that of w[0]; returns it.
WeightView check_experts(const char* op, std::span<const WeightView> w, ExpertRows rows) {
  HADAL_CHECK(!w.empty() && static_cast<int64_t>(w.size()) == expert_count(rows), kShape, op,
              ": w has ", w.size(), " matrices for ", expert_count(rows), " experts");
  for (size_t e = 0; e < w.size(); ++e) {
    check_any_weight(op, "a matrix of w", w[e]);
    HADAL_CHECK(w[e].block_bytes == w[0].block_bytes, kShape, op, ": w[", e,
                "] is stored in another format than w[0]");
    HADAL_CHECK(w[e].rows == w[0].rows && w[e].cols == w[0].cols, kShape, op, ": w[", e, "] is [",
                w[e].rows, ", ", w[e].cols, "], expected the shape of w[0], [", w[0].rows, ", ",
                w[0].cols, "]");
  }
  return w[0];
}

GemmOperand listed_rows(WeightView x, ExpertRows rows, int64_t e) {
  const int64_t first = begin_of(rows, e);
  if (rows.tokens.empty()) return operand(x.row_range(first, first + slots_of(rows, e)));
  GemmOperand all = operand(x);
  all.rows = rows.tokens.data() + first;
  return all;
}

// The same of rows rounded to FP8.
GemmOperand listed_fp8_rows(WeightView x, ExpertRows rows, int64_t e) {
  GemmOperand a = listed_rows(x, rows, e);
  a.scales = lanes_are_rows(x).scales;
  if (rows.tokens.empty()) a.scales.first_lane = begin_of(rows, e);
  return a;
}

}  // namespace

void grouped_linear(WeightView x, ExpertRows rows, std::span<const WeightView> w, Out2 y,
                    Precision precision) {
  const TimedPart timed(StepPart::kExperts);
  check_rows("grouped_linear", x, rows);
  const WeightView shape = check_experts("grouped_linear", w, rows);
  check_size("grouped_linear", "x", x, x.rows, shape.cols);
  check_size("grouped_linear", "y", y, all_slots(rows), shape.rows);
  if (in_panels(shape)) return grouped_panel_linear(x, rows, w, y);

  static thread_local std::vector<Product> products;  // kept, so that a step allocates nothing
  static thread_local Fp8Matrices rounded_x, rounded_w;
  const bool fp8 = is_fp8(precision);
  if (fp8) {
    x = rounded_x.round(x, kFp8Row);
    rounded_w.round_weights(w);
  }
  products.clear();
  for (int64_t e = 0; e < expert_count(rows); ++e) {
    if (slots_of(rows, e) == 0) continue;
    Gemm& g = products.emplace_back().gemm;
    g = {.op = GemmOp::kNT, .m = slots_of(rows, e), .n = shape.rows, .k = shape.cols};
    g.a = fp8 ? listed_fp8_rows(x, rows, e) : listed_rows(x, rows, e);
    g.b = fp8 ? lanes_are_rows(rounded_w[e]) : operand(w[static_cast<size_t>(e)]);
    g.c = y.row(begin_of(rows, e));
    g.c_stride = y.row_stride();
    g.bf16_arithmetic = precision == Precision::kBf16;
  }
  run_products(products);
}

// NOLINTNEXTLINE(readability-function-size): the tensors of its contract
void grouped_linear_backward(WeightView dy, ExpertRows dy_rows, WeightView x, ExpertRows x_rows,
                             std::span<const WeightView> w, Out2 dx, std::span<const Out2> dw,
                             Precision precision, Gradient to_dx) {
  const char* op = "grouped_linear_backward";
  const TimedPart timed(StepPart::kExperts);
  check_rows(op, dy, dy_rows);
  const WeightView shape = check_experts(op, w, dy_rows);
  check_weight(op, "w", shape);
  check_size(op, "dy", dy, dy.rows, shape.rows);
  if (!dx.empty()) check_size(op, "dx", dx, all_slots(dy_rows), shape.cols);
  HADAL_CHECK(dw.empty() || dw.size() == w.size(), kShape, op, ": dw has ", dw.size(),
              " matrices for ", w.size(), " experts");
  for (const Out2& one : dw) check_size(op, "a matrix of dw", one, shape.rows, shape.cols);
  if (!dw.empty()) {
    check_rows(op, x, x_rows);
    check_size(op, "x", x, x.rows, shape.cols);
    HADAL_CHECK(std::equal(dy_rows.offsets.begin(), dy_rows.offsets.end(), x_rows.offsets.begin(),
                           x_rows.offsets.end()),
                kShape, op, ": dy and x have other offsets");
  }

  static thread_local std::vector<Product> products;
  products.clear();
  const auto add = [&](GemmOp kind, int64_t m, int64_t k, GemmOperand a, GemmOperand b, float* c,
                       int64_t c_stride) {
    Gemm& g = products.emplace_back().gemm;
    g = {.op = kind, .m = m, .n = shape.cols, .k = k, .a = a, .b = b};
    g.c = c;
    g.c_stride = c_stride;
    g.accumulate = true;
    g.bf16_arithmetic = precision == Precision::kBf16;
  };
  static thread_local Fp8Matrices rounded_w, dy_for_dx, dy_for_dw, rounded_x;
  const bool fp8 = is_fp8(precision), blocks_of_dy = precision == Precision::kFp8Blocks;
  const bool rounded_dy = dy.scales != nullptr;
  if (fp8 && !dx.empty()) {
    rounded_w.round_weights(w);
    if (!rounded_dy) dy_for_dx.round(dy.floats(), dy_rows, blocks_of_dy ? kFp8Block : kFp8Row);
  }
  if (fp8 && !dw.empty()) {
    dy_for_dw.round(dy.floats(), dy_rows, blocks_of_dy ? kFp8Block : kFp8Column);
    rounded_x.round(x.floats(), x_rows, kFp8Column);
  }
  for (int64_t e = 0; e < expert_count(dy_rows); ++e) {
    const int64_t slots = slots_of(dy_rows, e), first = begin_of(dy_rows, e);
    const auto i = static_cast<size_t>(e);
    if (slots == 0) continue;
    if (!dx.empty()) {
      const GemmOperand a = rounded_dy ? listed_fp8_rows(dy, dy_rows, e)
                            : fp8      ? lanes_are_rows(dy_for_dx[e])
                                       : listed_rows(dy, dy_rows, e);
      add(GemmOp::kNN, slots, shape.rows, a, fp8 ? lanes_are_columns(rounded_w[e]) : operand(w[i]),
          dx.row(first), dx.row_stride());
      products.back().gemm.accumulate = to_dx == Gradient::kAdd;
    }
    if (!dw.empty()) {
      add(GemmOp::kTN, shape.rows, slots,
          fp8 ? lanes_are_columns(dy_for_dw[e]) : listed_rows(dy, dy_rows, e),
          fp8 ? lanes_are_columns(rounded_x[e]) : listed_rows(x, x_rows, e), dw[i].data(),
          dw[i].row_stride());
    }
  }
  run_products(products);
}

void grouped_linear_decode(In2 x, ExpertRows rows, std::span<const WeightView> w, Out2 y) {
  const char* op = "grouped_linear_decode";
  check_rows(op, x, rows);
  const WeightView shape = check_experts(op, w, rows);
  check_size(op, "x", x, x.dim(0), shape.cols);
  check_size(op, "y", y, all_slots(rows), shape.rows);
  if (in_panels(shape)) return grouped_panel_linear(x, rows, w, y);

  struct Part {
    int64_t expert, begin, end;  // rows of w
  };
  static thread_local std::vector<Part> parts;
  static thread_local std::vector<float> gathered;
  parts.clear();
  int64_t experts = 0;
  for (int64_t e = 0; e < expert_count(rows); ++e) experts += slots_of(rows, e) > 0 ? 1 : 0;
  if (experts == 0 || shape.rows == 0) return;
  // Long ranges, for memory likes them; some more than threads, for threads lose time.
  const int64_t row_bytes = std::max<int64_t>(1, shape.cols * dtype_size(shape.dtype));
  const int64_t wanted = num_threads() == 1 ? 1 : (4 * num_threads() + experts - 1) / experts;
  const int64_t range =
      std::max({(shape.rows + wanted - 1) / wanted, kSmallestExpertRead / row_bytes, int64_t{1}});
  for (int64_t e = 0; e < expert_count(rows); ++e) {
    for (int64_t i = 0; slots_of(rows, e) > 0 && i < shape.rows; i += range) {
      parts.push_back({e, i, std::min(i + range, shape.rows)});
    }
  }
  // Kernels take rows of x that follow each other.
  In2 slots = x;
  if (!rows.tokens.empty()) {
    const int64_t k = shape.cols;
    gathered.resize(static_cast<size_t>(std::max<int64_t>(1, all_slots(rows) * k)));
    for (int64_t s = 0; s < all_slots(rows); ++s) {
      std::copy_n(x.row(rows.tokens.data()[s]), k, gathered.data() + s * k);
    }
    slots = {gathered.data(), {all_slots(rows), k}};
  }
  const Kernels& kernel = kernels();
  const std::vector<Part>& all = parts;  // the caller's, not each worker's
  parallel_tasks(static_cast<int64_t>(all.size()), [&](int64_t i) {
    const Part& p = all[static_cast<size_t>(i)];
    const int64_t first = begin_of(rows, p.expert), last = begin_of(rows, p.expert + 1);
    decode_rows(kernel, slots.rows(first, last),
                w[static_cast<size_t>(p.expert)].row_range(p.begin, p.end),
                y.rows(first, last).cols(p.begin, p.end));
  });
}

}  // namespace hadal
