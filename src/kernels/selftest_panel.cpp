// Products of int8 and int4 weights in panels.
#include <algorithm>
#include <cstring>

#include "kernels/panels.h"
#include "kernels/selftest_data.h"

namespace hadal::selftest_detail {
namespace {

int64_t groups_of(int64_t k) {
  return (k + kPanelCols - 1) / kPanelCols;
}

struct Coded {
  std::vector<CodedGroup> groups;

  Coded(const Kernels& table, const Floats& x, int64_t rows, int64_t k)
      : groups(static_cast<size_t>(rows * groups_of(k))) {
    for (int64_t r = 0; r < rows; ++r) {
      table.code_row(x.data() + r * k, k, groups.data() + r * groups_of(k));
    }
  }
  const CodedGroup& group(int64_t g) const { return groups[static_cast<size_t>(g)]; }
};

// Panels of random codes and scales.
std::vector<uint8_t> random_panels(int64_t n, int64_t k, int64_t block_bytes) {
  Rng rng(7, 3);
  const int64_t count = (n + kPanelRows - 1) / kPanelRows * groups_of(k);
  std::vector<uint8_t> w(static_cast<size_t>(count * block_bytes));
  for (uint8_t& b : w) {
    b = static_cast<uint8_t>(rng.next_u64());
    if (block_bytes == kInt8BlockBytes && b == 0x80) b = 0;  // -128 is no code
  }
  for (int64_t b = 0; b < count; ++b) {
    for (int64_t i = 0; i < kPanelRows; ++i) {
      const bf16 scale = to_bf16(static_cast<float>(0.01 * rng.normal()));
      std::memcpy(w.data() + b * block_bytes + 2 * i, &scale, sizeof scale);
    }
  }
  return w;
}

double weight(const std::vector<uint8_t>& w, int64_t block_bytes, int64_t k, int64_t i, int64_t j) {
  const uint8_t* block = w.data() + (i / kPanelRows * groups_of(k) + j / kPanelCols) * block_bytes;
  const int64_t row = i % kPanelRows, c = j % kPanelCols;
  bf16 scale;
  std::memcpy(&scale, block + 2 * row, sizeof scale);
  const uint8_t* lines = block + kPanelScaleBytes + 4 * row + c % 4;
  if (block_bytes == kInt8BlockBytes) {
    return double{to_float(scale)} * static_cast<int8_t>(lines[c / 4 * kPanelLine]);
  }
  const int both = lines[c / 8 * kPanelLine];
  return double{to_float(scale)} * ((c % 8 < 4 ? both & 15 : both >> 4) - 8);
}

void check_shape(const Kernels& table, int64_t block_bytes, int64_t n, int64_t k, int64_t rows,
                 Worst& worst) {
  const std::vector<uint8_t> w = random_panels(n, k, block_bytes);
  const Coded x(table, numbers(rows * k, 5), rows, k);
  Floats y(static_cast<size_t>(rows * n), -7);
  PanelProduct p{w.data(), block_bytes, n, k};
  p.x = {x.groups.data(), nullptr};
  p.count = rows;
  p.y = y.data();
  p.y_stride = n;
  table.panel_product(p);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      double want = 0, size = 1e-30;
      for (int64_t j = 0; j < k; ++j) {
        const CodedGroup& group = x.group(r * groups_of(k) + j / kPanelCols);
        const double product =
            weight(w, block_bytes, k, i, j) * group.codes[j % kPanelCols] * double{group.scale};
        want += product;
        size += std::abs(product);
      }
      worst.see(y[static_cast<size_t>(r * n + i)], want,
                kRounding * static_cast<double>(groups_of(k) + 3) * size);
    }
  }
}

}  // namespace

double check_code_row(const Kernels& table) {
  Worst worst;
  for (int64_t n : kLengths) {
    const Floats x = numbers(n, 9);
    const Coded coded(table, x, 1, n);
    for (int64_t g = 0; g < groups_of(n); ++g) {
      const CodedGroup& group = coded.group(g);
      double amax = 0;
      int32_t total = 0;
      for (int64_t c = 0; c < kPanelCols; ++c) {
        const int64_t j = g * kPanelCols + c;
        if (j < n) amax = std::max(amax, std::abs(double{x[static_cast<size_t>(j)]}));
        total += group.codes[c];
      }
      const double scale = group.scale;
      worst.see(scale, amax / 127, kRounding * amax / 127);
      worst.see(group.minus, -total, 0.5);
      for (int64_t c = 0; c < kPanelCols; ++c) {
        const int64_t j = g * kPanelCols + c;
        const double value = j < n ? double{x[static_cast<size_t>(j)]} : 0;
        worst.see(group.codes[c] * scale, value, (0.5 + 0x1p-15) * scale);
      }
    }
  }
  return worst.value();
}

double check_panel_product(const Kernels& table) {
  Worst worst;
  for (int64_t block_bytes : {kInt8BlockBytes, kInt4BlockBytes}) {
    for (int64_t rows : {1, 2, 3, 8, 9, 15}) {
      check_shape(table, block_bytes, 100, 67, rows, worst);
      check_shape(table, block_bytes, 7, 320, rows, worst);
    }
  }
  return worst.value();
}

}  // namespace hadal::selftest_detail
