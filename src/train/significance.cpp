#include "train/significance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace hadal {
namespace {

// Continued fraction of the incomplete beta function, by Lentz's method.
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300, kEnough = 1e-15;
  constexpr int kMostTerms = 500;
  const auto guarded = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / guarded(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m <= kMostTerms; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double change = 1;
    for (const double term : {even, odd}) {
      d = 1 / guarded(1 + term * d);
      c = guarded(1 + term / c);
      change = c * d;
      value *= change;
    }
    if (std::abs(change - 1) < kEnough) break;
  }
  return value;
}

// Regularised: I_x(a, b).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                   : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double spread_of(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double student_two_sided(double t, double freedom) {
  return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
}

PairedTest paired_test(std::span<const double> a, std::span<const double> b) {
  HADAL_CHECK(a.size() == b.size(), kUsage, "a paired test of ", a.size(), " and ", b.size(),
              " results, expected as many of both");
  PairedTest test;
  test.pairs = static_cast<int64_t>(a.size());
  const auto n = static_cast<double>(a.size());
  if (a.empty()) return test;
  for (size_t i = 0; i < a.size(); ++i) test.mean += (b[i] - a[i]) / n;
  if (a.size() < 2) return test;
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(b[i] - a[i] - test.mean, 2);
  test.spread = std::sqrt(squares / (n - 1));
  if (test.mean == 0) return test;
  // Differences that are all alike to the last digit say that the noise was not sampled; the
  // smallest spread that the numbers can show stands in.
  const double least = std::abs(test.mean) * std::numeric_limits<double>::epsilon();
  test.p = student_two_sided(test.mean / (std::max(test.spread, least) / std::sqrt(n)), n - 1);
  return test;
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> corrected(p.size());
  double least = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    const auto left = static_cast<double>(order.size() - k);
    least = std::max(least, std::min(1.0, left * p[order[k]]));
    corrected[order[k]] = least;
  }
  return corrected;
}

}  // namespace hadal
