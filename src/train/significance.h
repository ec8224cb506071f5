#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace hadal {

// 0 of nothing.
double mean_of(std::span<const double> values);
// Standard deviation, of one value 0.
double spread_of(std::span<const double> values);

// Do two treatments differ? Each pair had the same seed, so what the seed does falls out of the
// difference.
struct PairedTest {
  int64_t pairs = 0;
  double mean = 0;    // of b - a
  double spread = 0;  // standard deviation of b - a
  // Chance of a mean this far from 0, either way, if nothing but noise (taken as normal) were at
  // work: Student's t with pairs - 1 degrees of freedom. 1 with fewer than two pairs, and when all
  // differences are 0.
  double p = 1;
};
// Error{kUsage} unless both have the same length.
PairedTest paired_test(std::span<const double> a, std::span<const double> b);

// The chances of several tests, corrected for their number by Holm: of m the smallest counts m
// times, the next m - 1 times, and so on, none below one before it. In the order of `p`.
std::vector<double> holm(std::span<const double> p);

// Chance that Student's t of so many degrees of freedom is further from 0 than t.
double student_two_sided(double t, double freedom);

}  // namespace hadal
