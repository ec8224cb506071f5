// What tests share: random tensors, comparisons, gradient checks, every instruction set, the data
// folder.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/tensor.h"
#include "kernels/kernels.h"
#include "tests/support/data.h"

namespace hadal {

using Matrix = Tensor<float, 2>;

// Deterministic normal numbers; another `stream` is another tensor.
Matrix random_matrix(int64_t rows, int64_t cols, uint64_t stream, double scale = 1);
Matrix filled(int64_t rows, int64_t cols, float value);
Matrix clone(In2 x);
// A row of a matrix, or a whole one-row matrix, as a vector view.
inline Out1 vec(const Matrix& m) {
  return {m.data(), {m.size()}};
}
std::vector<double> to_double(In2 x);

// Empty when every |got - want| <= tolerance * max(1, largest |want|); else where it is worst.
testing::AssertionResult close(In2 got, std::span<const double> want, double tolerance);
testing::AssertionResult same_bits(In2 a, In2 b);

// `grad` holds `start` plus dL/dparam. Compares every entry (or `samples` of them, spread evenly)
// with central differences of `loss`, a double-precision function of the double parameters.
// Tolerance is relative to the largest difference quotient.
testing::AssertionResult gradient_added(double start, In2 grad, std::vector<double>& param,
                                        const std::function<double()>& loss,
                                        double tolerance = 1e-4, int64_t samples = 0);

// Runs fn once for every kernel family this CPU has; failures name the family.
template <class Fn>
void for_each_family(Fn fn) {
  for (const Kernels* table : available_kernels()) {
    SCOPED_TRACE(std::string("kernel family ") + table->family);
    ScopedKernels scope(*table);
    fn();
  }
}

// The source tree: for golden and attack files.
std::filesystem::path source_dir();
// A folder of tests/golden; a file of src/text/testdata.
std::filesystem::path golden_dir(const std::string& name);
std::filesystem::path text_testdata(const std::string& name);
// A fresh empty folder that is removed when the process ends.
std::filesystem::path scratch_dir();

// The statement must throw Error of this kind with this text in its message.
#define EXPECT_ERROR(statement, wanted_kind, text)                                \
  do {                                                                            \
    try {                                                                         \
      (void)(statement);                                                          \
      ADD_FAILURE() << "no error; expected one with: " << (text);                 \
    } catch (const ::hadal::Error& e) {                                           \
      EXPECT_EQ(int(e.kind()), int(::hadal::ErrorKind::wanted_kind)) << e.what(); \
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what(); \
    }                                                                             \
  } while (false)

#define HADAL_NEEDS_DATA() \
  if (auto why = ::hadal::missing_data(""); !why.empty()) GTEST_SKIP() << why

}  // namespace hadal
