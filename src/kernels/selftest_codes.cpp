// The rows of number formats in the self-test.
#include <algorithm>

#include "kernels/selftest_data.h"

namespace hadal::selftest_detail {

// An E4M3 number is within 2^-4 of itself, or half a unit of 2^-9 of the tile's scale.
double check_fp8_codes(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, Floats y, Worst& worst) {
    std::vector<uint8_t> codes(x.size());
    Floats scales(x.size());
    const auto see = [&](auto scale_of) {
      for (size_t i = 0; i < x.size(); ++i) {
        const double scale = double{scale_of(i)}, value = double{to_float(e4m3{codes[i]})};
        worst.see(value * scale, double{x[i]},
                  std::abs(double{x[i]}) * 0x1.001p-4 + scale * 0x1p-10);
      }
    };
    table.fp8_encode_row(x.data(), n, codes.data(), scales.data());
    see([&](size_t i) { return scales[i / 128]; });
    table.fp8_decode_row(codes.data(), scales.data(), n, y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      worst.see(y[i], double{to_float(e4m3{codes[i]})} * double{scales[i / 128]},
                kRounding * std::abs(double{y[i]}) + 1e-30);
    }
  });
}

double check_fp8_numbers(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, const Floats&, Worst& worst) {
    std::vector<uint16_t> numbers(x.size());
    Floats scales(x.size());
    const auto see = [&](auto scale_of) {
      for (size_t i = 0; i < x.size(); ++i) {
        const double scale = double{scale_of(i)}, value = double{to_float(bf16{numbers[i]})};
        worst.see(value * scale, double{x[i]},
                  std::abs(double{x[i]}) * 0x1.001p-4 + scale * 0x1p-10);
      }
    };
    table.fp8_round_row(x.data(), n, numbers.data(), scales.data());
    see([&](size_t i) { return scales[i / 128]; });
    table.fp8_round_columns(x.data(), n, nullptr, 1, n, numbers.data(), scales.data());
    see([&](size_t i) { return scales[i]; });
    table.fp8_round_blocks(x.data(), n, nullptr, 1, n, numbers.data(), scales.data());
    see([&](size_t i) { return scales[i / 128]; });
  });
}

// One size of it: y of rows x from row kFirst of w on.
void see_fp8_product(const Kernels& table, int64_t k, int64_t rows, Worst& worst) {
  constexpr int64_t kRows = 140, kFirst = 100, kOutputs = kRows - kFirst;
  const StoredNumbers w = stored_numbers(numbers(kRows * k, 1, 100), Stored::kE4M3);
  const Floats scales = numbers(4, 2, 0.01), x = numbers(rows * k, 3);
  Floats y(static_cast<size_t>(rows * kOutputs));
  Fp8Product p{w.bytes.data() + kFirst * k, k, kOutputs, k, scales.data(), 2, kFirst};
  p.x = x.data();
  p.x_stride = k;
  p.rows = rows;
  p.y = y.data();
  p.y_stride = kOutputs;
  Floats workspace(static_cast<size_t>(p.workspace()));
  table.fp8_product(p, workspace.data());
  for (int64_t at = 0; at < rows * kOutputs; ++at) {
    const int64_t r = at / kOutputs, row = kFirst + at % kOutputs;
    double want = 0, size = 1e-30;
    for (int64_t j = 0; j < k; ++j) {
      const double product = double{w.values[static_cast<size_t>(row * k + j)]} *
                             double{scales[static_cast<size_t>(row / 128 * 2 + j / 128)]} *
                             double{x[static_cast<size_t>(r * k + j)]};
      want += product;
      size += std::abs(product);
    }
    worst.see(y[static_cast<size_t>(at)], want, 0x1.02p-8 * size);
  }
}

// Two bands and the end of two blocks. x may be rounded to BF16.
double check_fp8_product(const Kernels& table) {
  Worst worst;
  for (int64_t k : {1, 64, 67, 200}) {
    for (int64_t rows = 1; rows <= 3; ++rows) see_fp8_product(table, k, rows, worst);
  }
  return worst.value();
}

double check_bf16_rows(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, Floats y, Worst& worst) {
    std::vector<uint16_t> bits(x.size());
    table.to_bf16_row(x.data(), bits.data(), n);
    table.from_bf16_row(bits.data(), y.data(), n);
    for (size_t i = 0; i < x.size(); ++i) {
      worst.see(bits[i] == to_bf16(x[i]).bits ? 0 : 1, 0, 0.5);
      worst.see(y[i] == to_float(bf16{bits[i]}) ? 0 : 1, 0, 0.5);
    }
  });
}

double check_e5m6(const Kernels& table) {
  return over_lengths([&](int64_t n, const Floats& x, Floats y, Worst& worst) {
    std::vector<uint8_t> codes(2 * x.size() + 2);
    Floats scales(x.size());
    table.e5m6_encode_row(x.data(), n, codes.data(), scales.data());
    table.e5m6_decode_row(codes.data(), scales.data(), n, y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      worst.see(y[i], x[i], std::abs(double{x[i]}) * 0x1p-7 + double{scales[i / 128]} * 0x1p-21);
    }
  });
}

}  // namespace hadal::selftest_detail
