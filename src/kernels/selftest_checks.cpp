#include <algorithm>
#include <cstring>

#include "core/tensor.h"
#include "kernels/selftest_data.h"

namespace hadal {
namespace selftest_detail {
namespace {

// ---- matrix products

struct GemmShape {
  GemmOp op;
  int64_t m, n, k;
  bool in_bf16, bf16_arithmetic;
};

void check_gemm_shape(const Kernels& table, const GemmShape& s, Worst& worst) {
  const bool tn = s.op == GemmOp::kTN, nt = s.op == GemmOp::kNT;
  const Floats a = numbers(s.m * s.k, 1), b = numbers(s.n * s.k, 2);
  const std::vector<bf16> ah = to_bf16_row(a), bh = to_bf16_row(b);
  const auto used = [&](const Floats& x, const std::vector<bf16>& h, int64_t i) {
    const auto at = static_cast<size_t>(i);
    return double{s.in_bf16 || s.bf16_arithmetic ? to_float(h[at]) : x[at]};
  };
  Gemm g{.op = s.op, .m = s.m, .n = s.n, .k = s.k};
  g.a = {.data = a.data(), .stride = tn ? s.m : s.k, .bf16 = s.in_bf16};
  g.b = {.data = b.data(), .stride = nt ? s.k : s.n, .bf16 = s.in_bf16};
  if (s.in_bf16) g.a.data = ah.data(), g.b.data = bh.data();
  Floats c(static_cast<size_t>(s.m * s.n));
  g.c = c.data();
  g.c_stride = s.n;
  g.bf16_arithmetic = s.bf16_arithmetic;
  const Buffer workspace(table.gemm_workspace(g));
  table.gemm(g, workspace.data());
  for (int64_t i = 0; i < s.m; ++i) {
    for (int64_t j = 0; j < s.n; ++j) {
      double want = 0, size = 1e-30;
      for (int64_t p = 0; p < s.k; ++p) {
        const double x = used(a, ah, tn ? p * s.m + i : i * s.k + p);
        const double y = used(b, bh, nt ? j * s.k + p : p * s.n + j);
        want += x * y;
        size += std::abs(x * y);
      }
      worst.see(c[static_cast<size_t>(i * s.n + j)], want,
                kRounding * static_cast<double>(s.k + 2) * size);
    }
  }
}

double check_fp8_gemm(const Kernels& table);

double check_gemm(const Kernels& table) {
  Worst worst;
  for (GemmOp op : {GemmOp::kNT, GemmOp::kNN, GemmOp::kTN}) {
    for (bool in_bf16 : {false, true}) {
      for (bool bf16_arithmetic : {false, true}) {
        check_gemm_shape(table, {op, 31, 45, 67, in_bf16, bf16_arithmetic}, worst);
        check_gemm_shape(table, {op, 3, 2, 1050, in_bf16, bf16_arithmetic}, worst);
      }
    }
  }
  return std::max(worst.value(), check_fp8_gemm(table));
}

// y [rows, n] beside sums of so many product(r, i, j).
template <class ProductFn>
void see_sums(const Floats& y, int64_t rows, int64_t n, int64_t terms, ProductFn product,
              Worst& worst) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      double want = 0, size = 1e-30;
      for (int64_t j = 0; j < terms; ++j) {
        const double one = product(r, i, j);
        want += one;
        size += std::abs(one);
      }
      worst.see(y[static_cast<size_t>(r * n + i)], want,
                kRounding * static_cast<double>(terms + 2) * size);
    }
  }
}

double check_gemv(const Kernels& table) {
  Worst worst;
  for (int64_t k : kLengths) {
    for (Stored stored : {Stored::kF32, Stored::kBF16, Stored::kF16}) {
      const int64_t n = 11, rows = 6;
      const auto [bytes, w] = stored_numbers(numbers(n * k, 1), stored);
      Floats y(static_cast<size_t>(n * rows));
      const Floats x = numbers(rows * k, 2);
      table.gemv(bytes.data(), stored, k, n, k, x.data(), k, rows, y.data(), n, false);
      const auto product = [&, &numbers_of_w = w](int64_t r, int64_t i, int64_t j) {
        return static_cast<double>(numbers_of_w[static_cast<size_t>(i * k + j)]) *
               static_cast<double>(x[static_cast<size_t>(r * k + j)]);
      };
      see_sums(y, rows, n, k, product, worst);
    }
  }
  return worst.value();
}

double check_gemv_across(const Kernels& table) {
  Worst worst;
  for (int64_t n : kLengths) {
    for (Stored stored : {Stored::kF32, Stored::kBF16, Stored::kF16, Stored::kE4M3}) {
      const int64_t k = 11, rows = 3;
      const auto [bytes, w] = stored_numbers(numbers(k * n, 1), stored);
      Floats y(static_cast<size_t>(n * rows));
      const Floats x = numbers(rows * k, 2);
      table.gemv_across({bytes.data(), stored, n, k, n, x.data(), k, 0, rows, y.data(), n});
      const auto product = [&, &numbers_of_w = w](int64_t r, int64_t j, int64_t i) {
        return static_cast<double>(numbers_of_w[static_cast<size_t>(i * n + j)]) *
               static_cast<double>(x[static_cast<size_t>(r * k + i)]);
      };
      see_sums(y, rows, n, k, product, worst);
    }
  }
  return worst.value();
}

// ---- rows: fn(n, x, y, worst) for every length; x and y are n numbers of order one

double check_dot(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& a, const Floats& b, Worst& worst) {
    double want = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double product = static_cast<double>(a[i]) * static_cast<double>(b[i]);
      want += product;
      size += std::abs(product);
    }
    worst.see(table.dot(a.data(), b.data(), n), want,
              kRounding * static_cast<double>(n + 2) * size);
  });
}

double check_row_max(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& a, const Floats&, Worst& worst) {
    worst.see(table.row_max(a.data(), n), *std::max_element(a.begin(), a.end()), 1e-300);
  });
}

double check_exp_row(const Kernels& table) {
  return over_lengths([&](int64_t n, Floats a, Floats y, Worst& worst) {
    for (float& x : a) x *= 20;
    double total = 0;
    const double sum = static_cast<double>(table.exp_row(a.data(), 3.0f, y.data(), n));
    for (size_t i = 0; i < a.size(); ++i) {
      const double arg = static_cast<double>(a[i]) - 3.0, want = std::exp(arg);
      worst.see(y[i], want, (4 + std::abs(arg)) * 2 * kRounding * want + 0x1p-149);
      total += want;
    }
    worst.see(sum, total, 2e-5 * total + 0x1p-149);
  });
}

double check_sigmoid_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& a, Floats y, Worst& worst) {
    table.sigmoid_row(a.data(), y.data(), n);
    for (size_t i = 0; i < a.size(); ++i) {
      worst.see_close(y[i], 1 / (1 + std::exp(-static_cast<double>(a[i]))));
    }
  });
}

double check_scale_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& a, const Floats&, Worst& worst) {
    Floats y = a;
    table.scale_row(0.3f, y.data(), n);
    for (size_t i = 0; i < a.size(); ++i) worst.see_close(y[i], double{0.3f} * double{a[i]});
  });
}

double check_add_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& a, const Floats& b, Worst& worst) {
    Floats y = b;
    table.add_row(a.data(), y.data(), n);
    for (size_t i = 0; i < a.size(); ++i) worst.see_close(y[i], double{a[i]} + double{b[i]});
  });
}

double check_add_scaled_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& a, const Floats& b, Worst& worst) {
    Floats y = b;
    table.add_scaled_row(-1.7f, a.data(), y.data(), n);
    for (size_t i = 0; i < a.size(); ++i) {
      worst.see_close(y[i], double{b[i]} - double{1.7f} * double{a[i]});
    }
  });
}

// ---- norms

constexpr double kEps = 0.01;

double inv_rms_of(const Floats& x) {
  double squares = 0;
  for (float v : x) squares += double{v} * double{v};
  return 1 / std::sqrt(squares / static_cast<double>(x.size()) + double{static_cast<float>(kEps)});
}

double check_rmsnorm_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, const Floats& gain, Worst& worst) {
    Floats y(x.size());
    const double want = inv_rms_of(x);
    worst.see_close(table.rmsnorm_row(x.data(), gain.data(), static_cast<float>(kEps), y.data(), n),
                    want);
    for (size_t i = 0; i < x.size(); ++i) {
      worst.see_close(y[i], double{gain[i]} * double{x[i]} * want);
    }
  });
}

double check_rmsnorm_backward_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, const Floats& gain, Worst& worst) {
    const Floats dy = numbers(n, 3), start = numbers(n, 4);
    Floats dx = start, dgain = start;
    const double r = inv_rms_of(x), count = static_cast<double>(n);
    table.rmsnorm_backward_row(dy.data(), x.data(), gain.data(), static_cast<float>(r), dx.data(),
                               dgain.data(), n);
    double along = 0;
    for (size_t i = 0; i < x.size(); ++i) along += double{gain[i]} * double{dy[i]} * double{x[i]};
    for (size_t i = 0; i < x.size(); ++i) {
      worst.see_close(dx[i], double{start[i]} + r * double{gain[i]} * double{dy[i]} -
                                 r * r * r / count * along * double{x[i]});
      worst.see_close(dgain[i], double{start[i]} + double{dy[i]} * double{x[i]} * r);
    }
  });
}

struct MeanAndInverse {
  double mean, inv_std;
};
MeanAndInverse stats_of(const Floats& x) {
  double mean = 0, squares = 0;
  for (float v : x) mean += double{v} / static_cast<double>(x.size());
  for (float v : x) squares += (double{v} - mean) * (double{v} - mean);
  return {mean, 1 / std::sqrt(squares / static_cast<double>(x.size()) +
                              double{static_cast<float>(kEps)})};
}

double check_layernorm_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, const Floats& gain, Worst& worst) {
    const Floats bias = numbers(n, 3);
    Floats y(x.size());
    float stats[2];
    table.layernorm_row(x.data(), gain.data(), bias.data(), static_cast<float>(kEps), y.data(),
                        stats, n);
    const MeanAndInverse want = stats_of(x);
    worst.see_close(stats[0], want.mean);
    worst.see_close(stats[1], want.inv_std);
    for (size_t i = 0; i < x.size(); ++i) {
      worst.see_close(
          y[i], double{gain[i]} * (double{x[i]} - want.mean) * want.inv_std + double{bias[i]});
    }
  });
}

double check_layernorm_backward_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, const Floats& gain, Worst& worst) {
    const Floats dy = numbers(n, 3), start = numbers(n, 4);
    Floats dx = start, dgain = start, dbias = start;
    const MeanAndInverse s = stats_of(x);
    const float stats[2] = {static_cast<float>(s.mean), static_cast<float>(s.inv_std)};
    table.layernorm_backward_row(dy.data(), x.data(), gain.data(), stats, dx.data(), dgain.data(),
                                 dbias.data(), n);
    const double count = static_cast<double>(n);
    double mean_g = 0, mean_gh = 0;
    const auto h = [&](size_t i) { return (double{x[i]} - s.mean) * s.inv_std; };
    for (size_t i = 0; i < x.size(); ++i) {
      const double g = double{gain[i]} * double{dy[i]};
      mean_g += g / count;
      mean_gh += g * h(i) / count;
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const double g = double{gain[i]} * double{dy[i]}, from = double{start[i]};
      const double want = from + s.inv_std * (g - mean_g - h(i) * mean_gh);
      worst.see(dx[i], want, 5e-6 * (1 + std::abs(want)) * s.inv_std);  // eps limits inv_std to 10
      worst.see_close(dgain[i], from + double{dy[i]} * h(i));
      worst.see_close(dbias[i], from + double{dy[i]});
    }
  });
}

// ---- activations

double silu(double z) {
  return z / (1 + std::exp(-z));
}
double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
// Central difference, good to 1e-9.
template <class Fn>
double slope(Fn fn, double x) {
  return (fn(x + 1e-5) - fn(x - 1e-5)) / 2e-5;
}

double check_swiglu_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& gate, const Floats& up, Worst& worst) {
    Floats y(gate.size());
    table.swiglu_row(gate.data(), up.data(), y.data(), n);
    for (size_t i = 0; i < y.size(); ++i) {
      worst.see_close(y[i], silu(double{gate[i]}) * double{up[i]});
    }
  });
}

double check_swiglu_backward_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& gate, const Floats& up, Worst& worst) {
    const Floats dy = numbers(n, 3);
    Floats y(gate.size()), dgate(gate.size()), dup(gate.size());
    const float weight = 0.3f;
    const float sum = table.swiglu_backward_row(dy.data(), weight, gate.data(), up.data(), y.data(),
                                                dgate.data(), dup.data(), n);
    double want = 0, sizes = 0;
    for (size_t i = 0; i < dy.size(); ++i) {
      const double product = silu(double{gate[i]}) * double{up[i]};
      const double d = double{weight} * double{dy[i]}, g = double{gate[i]};
      want += double{dy[i]} * product;
      sizes += std::abs(double{dy[i]} * product);
      worst.see_close(y[i], double{weight} * product);
      worst.see_close(dgate[i], d * double{up[i]} * slope(silu, g));
      worst.see_close(dup[i], d * silu(g));
    }
    worst.see(double{sum}, want, 5e-6 * (1 + sizes));
  });
}

double check_gelu_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, Floats y, Worst& worst) {
    table.gelu_row(x.data(), y.data(), n);
    for (size_t i = 0; i < y.size(); ++i) worst.see_close(y[i], gelu(double{x[i]}));
  });
}

double check_gelu_backward_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, const Floats& dy, Worst& worst) {
    const Floats start = numbers(n, 4);
    Floats dx = start;
    table.gelu_backward_row(dy.data(), x.data(), dx.data(), n);
    for (size_t i = 0; i < dx.size(); ++i) {
      worst.see_close(dx[i], double{start[i]} + double{dy[i]} * slope(gelu, double{x[i]}));
    }
  });
}

// ---- optimizer

// `keep` makes of a moment what its storage makes of it.
template <class Update, class Keep>
double check_adamw(Update update, Keep keep, double moment_rounding) {
  return over_lengths([&](int64_t n, const Floats& g, const Floats& start, Worst& worst) {
    const AdamWRow u{.scale = 0.5f,
                     .first_share = 0.25f,
                     .second_share = 0.125f,
                     .step = 0.5f,
                     .inv_root = 2,
                     .eps = 0.01f,
                     .decay = 0.25f};
    Floats w = start, m = numbers(n, 3), v = numbers(n, 4);
    for (float& x : v) x *= x;
    for (Floats* moment : {&m, &v}) {
      for (float& x : *moment) x = keep(x);
    }
    const Floats m_old = m, v_old = v;
    update(u, g, w, m, v);
    for (size_t i = 0; i < g.size(); ++i) {
      const double gradient = 0.5 * double{g[i]};
      const double first = double{m_old[i]} + 0.25 * (gradient - double{m_old[i]});
      const double second = double{v_old[i]} + 0.125 * (gradient * gradient - double{v_old[i]});
      const auto allowed = [&](double x) { return moment_rounding * std::abs(x) + 1e-6; };
      worst.see(m[i], first, allowed(first));
      worst.see(v[i], second, allowed(second));
      const double change = 0.5 * first / (std::sqrt(second) * 2 + double{0.01f});
      worst.see_close(w[i], double{start[i]} - change - 0.25 * double{start[i]});
    }
  });
}

double check_adamw_row(const Kernels& table) {
  return check_adamw(
      [&](const AdamWRow& u, const Floats& g, Floats& w, Floats& m, Floats& v) {
        table.adamw_row(u, g.data(), w.data(), m.data(), v.data(), static_cast<int64_t>(g.size()));
      },
      [](float x) { return x; }, 4 * kRounding);
}

double check_adamw_bf16_row(const Kernels& table) {
  return check_adamw(
      [&](const AdamWRow& u, const Floats& g, Floats& w, Floats& m, Floats& v) {
        std::vector<uint16_t> mh, vh;
        for (const float x : m) mh.push_back(to_bf16(x).bits);
        for (const float x : v) vh.push_back(to_bf16(x).bits);
        table.adamw_bf16_row(u, g.data(), w.data(), mh.data(), vh.data(),
                             static_cast<int64_t>(g.size()));
        for (size_t i = 0; i < g.size(); ++i) {
          m[i] = to_float(bf16{mh[i]});
          v[i] = to_float(bf16{vh[i]});
        }
      },
      [](float x) { return to_float(to_bf16(x)); }, 1.01 * 0x1p-8);
}

double check_average_row(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, const Floats& start, Worst& worst) {
    Floats y = start;
    table.average_row(0.3f, x.data(), y.data(), n);
    for (size_t i = 0; i < y.size(); ++i) {
      const double from = double{start[i]};
      worst.see_close(y[i], from + double{0.3f} * (double{x[i]} - from));
    }
  });
}

// ---- rotary embedding

template <class Kernel, class Place>
double check_rope(Kernel kernel, Place place) {
  return over_lengths([&](int64_t pairs, const Floats& cos, const Floats& sin, Worst& worst) {
    const int64_t heads = 3, stride = 2 * pairs + 4;
    const Floats start = numbers(heads * stride, 5);
    for (float direction : {1.0f, -1.0f}) {
      Floats x = start;
      kernel(x.data(), cos.data(), sin.data(), direction, pairs, heads, stride);
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < pairs; ++i) {
          const auto first = static_cast<size_t>(h * stride + place(i, pairs, 0));
          const auto second = static_cast<size_t>(h * stride + place(i, pairs, 1));
          const double a = double{start[first]}, b = double{start[second]};
          const double c = double{cos[static_cast<size_t>(i)]};
          const double s = double{direction} * double{sin[static_cast<size_t>(i)]};
          worst.see_close(x[first], a * c - b * s);
          worst.see_close(x[second], b * c + a * s);
        }
        const auto gap = static_cast<size_t>(h * stride + 2 * pairs);
        worst.see(x[gap], start[gap], 1e-300);
      }
    }
  });
}

double check_rope_adjacent(const Kernels& table) {
  return check_rope(table.rope_adjacent,
                    [](int64_t i, int64_t, int64_t which) { return 2 * i + which; });
}
double check_rope_halves(const Kernels& table) {
  return check_rope(table.rope_halves,
                    [](int64_t i, int64_t pairs, int64_t which) { return i + which * pairs; });
}

// ---- FP8

// Products of codes: 1 x 128 tiles by 128 x 128 blocks, as in Fprop.
double check_fp8_gemm(const Kernels& table) {
  const int64_t m = 17, n = 40, k = 300, tiles = 3;
  const Floats x = numbers(m * k, 1), w = numbers(n * k, 2);
  std::vector<uint16_t> a(x.size()), b(w.size());
  Floats a_scales(static_cast<size_t>(m * tiles)), b_scales(tiles);
  for (int64_t i = 0; i < m; ++i) {
    table.fp8_round_row(x.data() + i * k, k, a.data() + i * k, a_scales.data() + i * tiles);
  }
  table.fp8_round_blocks(w.data(), k, nullptr, n, k, b.data(), b_scales.data());
  Gemm g{.op = GemmOp::kNT, .m = m, .n = n, .k = k};
  g.a = {.data = a.data(), .stride = k, .bf16 = true, .scales = {a_scales.data(), tiles, 1, 1, 0}};
  g.b = {
      .data = b.data(), .stride = k, .bf16 = true, .scales = {b_scales.data(), tiles, 1, 128, 0}};
  Floats c(static_cast<size_t>(m * n));
  g.c = c.data();
  g.c_stride = n;
  const Buffer workspace(table.gemm_workspace(g));
  table.gemm(g, workspace.data());
  Worst worst;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = 0, size = 1e-30;
      for (int64_t p = 0; p < k; ++p) {
        const double scale = double{a_scales[static_cast<size_t>(i * tiles + p / 128)]} *
                             double{b_scales[static_cast<size_t>(p / 128)]};
        const double product = scale * double{to_float(bf16{a[static_cast<size_t>(i * k + p)]})} *
                               double{to_float(bf16{b[static_cast<size_t>(j * k + p)]})};
        want += product;
        size += std::abs(product);
      }
      worst.see(c[static_cast<size_t>(i * n + j)], want,
                kRounding * static_cast<double>(k + 8) * size);
    }
  }
  return worst.value();
}

// ---- roofs: their loops must do what they count

double check_peak_fp32(const Kernels& table) {
  Worst worst;
  worst.see(table.peak_fp32(20), 2 * table.peak_fp32(10), 1e-9);
  return table.peak_fp32(1) > 0 ? worst.value() : INFINITY;
}
double check_peak_bf16(const Kernels& table) {
  Worst worst;
  worst.see(table.peak_bf16(20), 2 * table.peak_bf16(10), 1e-9);
  return table.peak_bf16(1) > 0 ? worst.value() : INFINITY;
}
double check_peak_int8(const Kernels& table) {
  Worst worst;
  worst.see(table.peak_int8(20), 2 * table.peak_int8(10), 1e-9);
  return table.peak_int8(1) > 0 ? worst.value() : INFINITY;
}

double check_read_memory(const Kernels& table) {
  const Buffer memory(int64_t{9} << 10);
  Rng rng(1);
  std::vector<uint64_t> words(static_cast<size_t>(memory.bytes() / 8));
  for (uint64_t& w : words) w = rng.next_u64();
  std::memcpy(memory.data(), words.data(), words.size() * 8);
  Worst worst;
  for (int64_t streams : {1, 2, 4, 8}) {
    uint64_t want = 0;
    for (uint64_t w : words) want ^= w;
    worst.see(table.read_memory(memory.data(), memory.bytes(), streams) == want ? 0 : 1, 0, 0.5);
  }
  return worst.value();
}

constexpr KernelCheck kChecks[] = {
    HADAL_KERNEL_CHECK(gemm_workspace, check_gemm),  // too small, it would overflow
    HADAL_KERNEL_CHECK(gemm, check_gemm),
    HADAL_KERNEL_CHECK(gemv, check_gemv),
    HADAL_KERNEL_CHECK(gemv_across, check_gemv_across),
    HADAL_KERNEL_CHECK(fp8_product, check_fp8_product),
    HADAL_KERNEL_CHECK(code_row, check_code_row),
    HADAL_KERNEL_CHECK(panel_product, check_panel_product),
    HADAL_KERNEL_CHECK(dot, check_dot),
    HADAL_KERNEL_CHECK(row_max, check_row_max),
    HADAL_KERNEL_CHECK(exp_row, check_exp_row),
    HADAL_KERNEL_CHECK(sigmoid_row, check_sigmoid_row),
    HADAL_KERNEL_CHECK(scale_row, check_scale_row),
    HADAL_KERNEL_CHECK(add_row, check_add_row),
    HADAL_KERNEL_CHECK(add_scaled_row, check_add_scaled_row),
    HADAL_KERNEL_CHECK(to_bf16_row, check_bf16_rows),
    HADAL_KERNEL_CHECK(from_bf16_row, check_bf16_rows),
    HADAL_KERNEL_CHECK(fp8_encode_row, check_fp8_codes),
    HADAL_KERNEL_CHECK(fp8_round_row, check_fp8_numbers),
    HADAL_KERNEL_CHECK(fp8_round_columns, check_fp8_numbers),
    HADAL_KERNEL_CHECK(fp8_round_blocks, check_fp8_numbers),
    HADAL_KERNEL_CHECK(fp8_decode_row, check_fp8_codes),
    HADAL_KERNEL_CHECK(e5m6_encode_row, check_e5m6),
    HADAL_KERNEL_CHECK(e5m6_decode_row, check_e5m6),
    HADAL_KERNEL_CHECK(rmsnorm_row, check_rmsnorm_row),
    HADAL_KERNEL_CHECK(rmsnorm_backward_row, check_rmsnorm_backward_row),
    HADAL_KERNEL_CHECK(layernorm_row, check_layernorm_row),
    HADAL_KERNEL_CHECK(layernorm_backward_row, check_layernorm_backward_row),
    HADAL_KERNEL_CHECK(swiglu_row, check_swiglu_row),
    HADAL_KERNEL_CHECK(swiglu_backward_row, check_swiglu_backward_row),
    HADAL_KERNEL_CHECK(gelu_row, check_gelu_row),
    HADAL_KERNEL_CHECK(gelu_backward_row, check_gelu_backward_row),
    HADAL_KERNEL_CHECK(adamw_row, check_adamw_row),
    HADAL_KERNEL_CHECK(adamw_bf16_row, check_adamw_bf16_row),
    HADAL_KERNEL_CHECK(average_row, check_average_row),
    HADAL_KERNEL_CHECK(rope_adjacent, check_rope_adjacent),
    HADAL_KERNEL_CHECK(rope_halves, check_rope_halves),
    HADAL_KERNEL_CHECK(attention_workspace, check_attention_part),
    HADAL_KERNEL_CHECK(attention_part, check_attention_part),
    HADAL_KERNEL_CHECK(attention_few_part, check_attention_few_part),
    HADAL_KERNEL_CHECK(attention_gradient, check_attention_gradient),
    HADAL_KERNEL_CHECK(peak_fp32, check_peak_fp32),
    HADAL_KERNEL_CHECK(peak_bf16, check_peak_bf16),
    HADAL_KERNEL_CHECK(peak_int8, check_peak_int8),
    HADAL_KERNEL_CHECK(read_memory, check_read_memory),
};

}  // namespace
}  // namespace selftest_detail

std::span<const KernelCheck> kernel_checks() {
  return selftest_detail::kChecks;
}

}  // namespace hadal
