#include "tests/support/testing.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace hadal {

namespace fs = std::filesystem;

Matrix random_matrix(int64_t rows, int64_t cols, uint64_t stream, double scale) {
  Matrix m({rows, cols});
  Rng rng(42, stream);
  for (int64_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(scale * rng.normal());
  return m;
}

Matrix filled(int64_t rows, int64_t cols, float value) {
  Matrix m({rows, cols});
  std::fill_n(m.data(), m.size(), value);
  return m;
}

Matrix clone(In2 x) {
  Matrix m({x.dim(0), x.dim(1)});
  for (int64_t t = 0; t < x.dim(0); ++t) std::copy_n(x.row(t), x.dim(1), m.row(t));
  return m;
}

std::vector<double> to_double(In2 x) {
  std::vector<double> out;
  out.reserve(static_cast<size_t>(x.size()));
  for (int64_t t = 0; t < x.dim(0); ++t) {
    for (int64_t d = 0; d < x.dim(1); ++d) out.push_back(x.row(t)[d]);
  }
  return out;
}

testing::AssertionResult close(In2 got, std::span<const double> want, double tolerance) {
  if (got.size() != static_cast<int64_t>(want.size())) {
    return testing::AssertionFailure() << got.size() << " numbers, expected " << want.size();
  }
  double largest = 1, worst = 0;
  for (double w : want) largest = std::max(largest, std::abs(w));
  int64_t at = 0;
  for (int64_t i = 0; i < got.size(); ++i) {
    const double g = got.row(i / got.dim(1))[i % got.dim(1)];
    const double error = std::abs(g - want[static_cast<size_t>(i)]);
    if (!(error <= worst)) worst = error, at = i;
  }
  if (worst <= tolerance * largest) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "[" << at / got.dim(1) << ", " << at % got.dim(1) << "] is "
         << got.row(at / got.dim(1))[at % got.dim(1)] << ", expected "
         << want[static_cast<size_t>(at)] << " within " << tolerance * largest;
}

testing::AssertionResult same_bits(In2 a, In2 b) {
  if (a.shape() != b.shape()) return testing::AssertionFailure() << "shapes differ";
  for (int64_t t = 0; t < a.dim(0); ++t) {
    if (std::memcmp(a.row(t), b.row(t), static_cast<size_t>(a.dim(1)) * sizeof(float)) == 0) {
      continue;
    }
    for (int64_t d = 0; d < a.dim(1); ++d) {
      if (std::memcmp(a.row(t) + d, b.row(t) + d, sizeof(float)) != 0) {
        return testing::AssertionFailure()
               << "[" << t << ", " << d << "]: " << a.row(t)[d] << " and " << b.row(t)[d];
      }
    }
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult gradient_added(double start, In2 grad, std::vector<double>& param,
                                        const std::function<double()>& loss, double tolerance,
                                        int64_t samples) {
  const auto n = static_cast<int64_t>(param.size());
  if (grad.size() != n) {
    return testing::AssertionFailure() << grad.size() << " gradients of " << n << " parameters";
  }
  const int64_t count = samples > 0 ? std::min(samples, n) : n;
  std::vector<double> quotients, got;
  std::vector<int64_t> places;
  double largest = 1e-3;
  for (int64_t s = 0; s < count; ++s) {
    const int64_t i = s * n / count;
    double& p = param[static_cast<size_t>(i)];
    const double saved = p, h = 1e-5 * std::max(1.0, std::abs(saved));
    p = saved + h;
    const double up = loss();
    p = saved - h;
    const double down = loss();
    p = saved;
    quotients.push_back((up - down) / (2 * h));
    got.push_back(double(grad.row(i / grad.dim(1))[i % grad.dim(1)]) - start);
    places.push_back(i);
    largest = std::max(largest, std::abs(quotients.back()));
  }
  for (size_t s = 0; s < places.size(); ++s) {
    if (!(std::abs(got[s] - quotients[s]) <= tolerance * largest)) {
      return testing::AssertionFailure()
             << "entry " << places[s] << ": gradient " << got[s] << ", difference quotient "
             << quotients[s] << ", tolerance " << tolerance * largest;
    }
  }
  return testing::AssertionSuccess();
}

fs::path source_dir() {
  return HADAL_SOURCE_DIR;
}

fs::path golden_dir(const std::string& name) {
  return source_dir() / "tests/golden" / name;
}

fs::path text_testdata(const std::string& name) {
  return source_dir() / "src/text/testdata" / name;
}

fs::path scratch_dir() {
  struct Folder {
    fs::path path;
    Folder() {
      std::string name = (fs::temp_directory_path() / "hadal-test-XXXXXX").string();
      if (::mkdtemp(name.data()) == nullptr) throw Error(ErrorKind::kIo, "cannot make " + name);
      path = name;
    }
    ~Folder() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  };
  static const Folder root;
  static int count = 0;
  const fs::path folder = root.path / std::to_string(count++);
  fs::create_directories(folder);
  return folder;
}

}  // namespace hadal
