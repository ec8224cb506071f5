#include <algorithm>

#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/selftest_data.h"

namespace hadal::selftest_detail {
namespace {

struct Shape {
  int64_t keys, qk, v, group, query_rows, visible;
  bool bf16;
};

// Keys and values on pages of 7 rows, queries of `group` heads; everything in double too.
struct Problem {
  static constexpr int64_t kPageRows = 7;
  Shape s;
  float scale;
  Floats k, v, q;
  std::vector<bf16> kh, vh;
  std::vector<const std::byte*> k_pages, v_pages;

  explicit Problem(const Shape& shape)
      : s(shape),
        scale(1 / std::sqrt(static_cast<float>(shape.qk))),
        k(numbers(shape.keys * shape.qk, 1)),
        v(numbers(shape.keys * shape.v, 2)),
        q(numbers(shape.query_rows * shape.group * shape.qk, 3)),
        kh(to_bf16_row(k)),
        vh(to_bf16_row(v)) {
    const int64_t size = s.bf16 ? 2 : 4;
    const auto* k_bytes =
        reinterpret_cast<const std::byte*>(s.bf16 ? static_cast<const void*>(kh.data()) : k.data());
    const auto* v_bytes =
        reinterpret_cast<const std::byte*>(s.bf16 ? static_cast<const void*>(vh.data()) : v.data());
    for (int64_t i = 0; i < s.keys; i += kPageRows) {
      k_pages.push_back(k_bytes + i * s.qk * size);
      v_pages.push_back(v_bytes + i * s.v * size);
    }
    for (size_t i = 0; s.bf16 && i < k.size(); ++i) k[i] = to_float(kh[i]);
    for (size_t i = 0; s.bf16 && i < v.size(); ++i) v[i] = to_float(vh[i]);
  }
  int64_t columns() const { return s.group * s.query_rows; }
  int64_t seen(int64_t column) const { return std::min(s.keys, s.visible + column / s.group); }
  AttentionRows key_rows() const { return {k_pages.data(), kPageRows, s.qk, 0, s.bf16}; }
  AttentionRows value_rows() const { return {v_pages.data(), kPageRows, s.v, 0, s.bf16}; }
  // A column's numbers of a matrix whose heads have `dims` numbers.
  static double at(const Floats& x, int64_t row, int64_t dims, int64_t d) {
    return double{x[static_cast<size_t>(row * dims + d)]};
  }
  double score(int64_t column, int64_t key) const {
    double dot = 0;
    for (int64_t d = 0; d < s.qk; ++d) dot += at(q, column, s.qk, d) * at(k, key, s.qk, d);
    return double{scale} * dot;
  }
};

// Of what FP32 arithmetic is allowed: operands with 8 bits instead of 24.
constexpr double kRounded = 1000;

using PartFn = void (*)(const AttentionPart&, float*) noexcept;

void check_part(const Kernels& table, PartFn part, const Problem& p, bool rounds, Worst& worst) {
  const int64_t rows = p.columns() + kAttentionSlack, o_stride = (p.s.v + 15) / 16 * 16;
  Floats o(static_cast<size_t>(rows * o_stride)), max(static_cast<size_t>(rows)), sum = max;
  AttentionPart task;
  task.dims = {p.s.qk, p.s.v, p.scale};
  task.keys = p.key_rows();
  task.values = p.value_rows();
  task.key_end = p.s.keys;
  task.columns = {0, p.columns(), p.s.group, p.s.visible};
  task.q = {p.q.data(), p.s.group * p.s.qk};
  task.o = o.data();
  task.o_stride = o_stride;
  task.max = max.data();
  task.sum = sum.data();
  task.bf16_arithmetic = rounds;
  const Buffer workspace(4 * table.attention_workspace(p.s.qk, p.s.v));
  part(task, reinterpret_cast<float*>(workspace.data()));
  for (int64_t c = 0; c < p.columns(); ++c) {
    const auto at = static_cast<size_t>(c);
    double total = 0;
    std::vector<double> want(static_cast<size_t>(p.s.v));
    for (int64_t j = 0; j < p.seen(c); ++j) {
      const double e = std::exp(p.score(c, j));
      total += e;
      for (int64_t d = 0; d < p.s.v; ++d) {
        want[static_cast<size_t>(d)] += e * Problem::at(p.v, j, p.s.v, d);
      }
    }
    const double share = rounds ? kRounded : 1;
    worst.see_close(double{max[at]} + std::log2(double{sum[at]}), std::log2(total), share);
    for (int64_t d = 0; d < p.s.v; ++d) {
      worst.see_close(Problem::at(o, c, o_stride, d) / double{sum[at]},
                      want[static_cast<size_t>(d)] / total, share);
    }
  }
}

}  // namespace

double check_attention_part(const Kernels& table) {
  Worst worst;
  for (bool bf16 : {false, true}) {
    for (bool rounds : {false, true}) {
      const auto check = [&](const Shape& shape) {
        check_part(table, table.attention_part, Problem(shape), rounds, worst);
      };
      check({230, 24, 40, 2, 61, 170, bf16});
      check({5, 96, 64, 1, 3, 2, bf16});
      check({101, 33, 17, 1, 50, 52, bf16});
    }
  }
  return worst.value();
}

double check_attention_few_part(const Kernels& table) {
  Worst worst;
  for (bool bf16 : {false, true}) {
    check_part(table, table.attention_few_part, Problem({230, 24, 40, 5, 1, 230, bf16}), false,
               worst);
    check_part(table, table.attention_few_part, Problem({6, 96, 64, 8, 1, 6, bf16}), false, worst);
  }
  return worst.value();
}

namespace {

void check_gradient(const Kernels& table, const Problem& p, bool rounds, Worst& worst) {
  const Shape& s = p.s;
  const int64_t columns = p.columns();
  const Floats d_o = numbers(columns * s.v, 4);
  Floats o(static_cast<size_t>(columns * s.v)), lse(static_cast<size_t>(columns));
  std::vector<double> dq(p.q.size()), dk(p.k.size()), dv(p.v.size());
  for (int64_t c = 0; c < columns; ++c) {
    double total = 0, delta = 0;
    for (int64_t j = 0; j < p.seen(c); ++j) total += std::exp(p.score(c, j));
    lse[static_cast<size_t>(c)] = static_cast<float>(std::log(total));
    std::vector<double> probability, d_probability;
    for (int64_t j = 0; j < p.seen(c); ++j) {
      double d = 0;
      probability.push_back(std::exp(p.score(c, j)) / total);
      for (int64_t i = 0; i < s.v; ++i) {
        d += Problem::at(d_o, c, s.v, i) * Problem::at(p.v, j, s.v, i);
        dv[static_cast<size_t>(j * s.v + i)] += probability.back() * Problem::at(d_o, c, s.v, i);
        o[static_cast<size_t>(c * s.v + i)] +=
            static_cast<float>(probability.back() * Problem::at(p.v, j, s.v, i));
      }
      d_probability.push_back(d);
      delta += probability.back() * d;
    }
    for (int64_t j = 0; j < p.seen(c); ++j) {
      const auto at = static_cast<size_t>(j);
      const double d_score = double{p.scale} * probability[at] * (d_probability[at] - delta);
      for (int64_t i = 0; i < s.qk; ++i) {
        dq[static_cast<size_t>(c * s.qk + i)] += d_score * Problem::at(p.k, j, s.qk, i);
        dk[static_cast<size_t>(j * s.qk + i)] += d_score * Problem::at(p.q, c, s.qk, i);
      }
    }
  }
  Floats got_dq(p.q.size(), 1), got_dk(p.k.size(), 2), got_dv(p.v.size(), 3);
  AttentionGradient task;
  task.dims = {s.qk, s.v, p.scale};
  task.keys = p.key_rows();
  task.values = p.value_rows();
  task.key_end = s.keys;
  task.columns = {0, columns, s.group, s.visible};
  task.q = {p.q.data(), s.group * s.qk};
  task.d_o = {d_o.data(), s.group * s.v};
  task.o = {o.data(), s.group * s.v};
  task.lse = {lse.data(), s.group};
  task.dq = {got_dq.data(), s.group * s.qk};
  task.dk = got_dk.data();
  task.dv = got_dv.data();
  task.dk_stride = s.qk;
  task.dv_stride = s.v;
  task.bf16_arithmetic = rounds;
  const Buffer workspace(4 * table.attention_workspace(s.qk, s.v));
  table.attention_gradient(task, reinterpret_cast<float*>(workspace.data()));

  const double times = 4 * (rounds ? kRounded : 1);
  const auto compare = [&](const Floats& got, const std::vector<double>& want, double start) {
    for (size_t i = 0; i < want.size(); ++i) {
      worst.see_close(double{got[i]} - start, want[i], times);
    }
  };
  compare(got_dq, dq, 1);
  compare(got_dk, dk, 2);
  compare(got_dv, dv, 3);
}

}  // namespace

double check_attention_gradient(const Kernels& table) {
  Worst worst;
  for (const bool rounds : {false, true}) {
    check_gradient(table, Problem({210, 24, 40, 2, 70, 140, false}), rounds, worst);
    check_gradient(table, Problem({101, 33, 17, 1, 51, 51, false}), rounds, worst);
  }
  return worst.value();
}

}  // namespace hadal::selftest_detail
