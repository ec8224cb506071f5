#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "core/dtype.h"
#include "kernels/testing.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr float kFp8Nan = std::numeric_limits<float>::quiet_NaN();
constexpr float kFp8Inf = std::numeric_limits<float>::infinity();
constexpr int64_t kTile = 128;

// ---- products

struct Fp8Case {
  GemmOp op;
  int64_t m, n, k;
  int64_t a_lanes = 1, b_lanes = 1;  // of a tile
  bool accumulate = false, gather = false;
  int64_t first = 0;  // lanes of the whole operand before those of this product
};

struct Numbers {
  int64_t rows, cols;  // as stored
  std::vector<bf16> numbers;
  std::vector<float> scales;
  bool lanes_are_rows;
  int64_t lanes;  // of a tile
  std::vector<int32_t> list;

  Numbers(int64_t lane_count, int64_t k, bool by_rows, int64_t tile_lanes, bool gather,
          uint64_t stream)
      : rows(by_rows ? lane_count : k),
        cols(by_rows ? k : lane_count),
        lanes_are_rows(by_rows),
        lanes(tile_lanes) {
    Rng rng(11, stream);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const auto code = uint8_t(rng.below(127) | rng.below(2) << 7);  // all but NaN
      numbers.push_back(to_bf16(to_float(e4m3{code})));
    }
    const int64_t tiles = (k + kTile - 1) / kTile, across = (lane_count + lanes - 1) / lanes;
    for (int64_t i = 0; i < tiles * across; ++i) scales.push_back(float(0.01 + rng.uniform()));
    for (int64_t i = 0; gather && i < lane_count; ++i) {
      list.push_back(int32_t(rng.below(lane_count)));
    }
  }
  int64_t k() const { return lanes_are_rows ? cols : rows; }
  int64_t source(int64_t lane) const { return list.empty() ? lane : list[size_t(lane)]; }
  float value(int64_t lane, int64_t at) const {
    const int64_t l = source(lane);
    return to_float(numbers[size_t(lanes_are_rows ? l * cols + at : at * cols + l)]);
  }
  int64_t tile_stride() const { return lanes_are_rows ? 1 : (cols + lanes - 1) / lanes; }
  int64_t lane_stride() const { return lanes_are_rows ? (k() + kTile - 1) / kTile : 1; }
  float scale(int64_t lane, int64_t tile) const {
    return scales[size_t(source(lane) / lanes * lane_stride() + tile * tile_stride())];
  }
  GemmOperand operand(int64_t first) const {
    GemmOperand x{.data = numbers.data() + (list.empty() ? first * (lanes_are_rows ? cols : 1) : 0),
                  .stride = cols,
                  .bf16 = true};
    if (!list.empty()) x.rows = list.data() + first;
    x.scales = {scales.data(), lane_stride(), tile_stride(), lanes, first};
    return x;
  }
};

// The rules, in plain words of C++.
float reference(const Numbers& a, int64_t i, const Numbers& b, int64_t j, float c) {
  const int64_t k = a.k();
  for (int64_t tile = 0; tile * kTile < k; ++tile) {
    float sum = 0;
    const int64_t end = std::min(k, (tile + 1) * kTile);
    for (int64_t p = tile * kTile; p < end; p += 2) {
      if (p + 1 < end) sum += a.value(i, p + 1) * b.value(j, p + 1);
      sum += a.value(i, p) * b.value(j, p);
    }
    c += a.scale(i, tile) * b.scale(j, tile) * sum;
  }
  return c;
}

void check(const Kernels& table, const Fp8Case& c) {
  const bool tn = c.op == GemmOp::kTN, nt = c.op == GemmOp::kNT;
  const Numbers a(c.first + c.m, c.k, !tn, c.a_lanes, c.gather && !tn, 1);
  const Numbers b(c.first + c.n, c.k, nt, c.b_lanes, c.gather && nt, 2);
  const Matrix start = random_matrix(c.m, c.n, 3);
  Matrix got({c.m, c.n + 3});
  std::fill_n(got.data(), got.size(), kFp8Nan);
  for (int64_t i = 0; c.accumulate && i < c.m; ++i) std::copy_n(start.row(i), c.n, got.row(i));
  Gemm g{
      .op = c.op, .m = c.m, .n = c.n, .k = c.k, .a = a.operand(c.first), .b = b.operand(c.first)};
  g.c = got.data();
  g.c_stride = got.dim(1);
  g.accumulate = c.accumulate;
  const int64_t bytes = table.gemm_workspace(g);
  Tensor<uint32_t, 1> workspace({bytes / 4 + 16});
  std::fill_n(workspace.data(), workspace.size(), 0x7fc0ca11u);
  table.gemm(g, workspace.data());
  for (int64_t i = 0; i < 16; ++i) ASSERT_EQ(workspace.data()[bytes / 4 + i], 0x7fc0ca11u);
  for (int64_t i = 0; i < c.m; ++i) {
    for (int64_t j = 0; j < c.n; ++j) {
      const float want =
          reference(a, c.first + i, b, c.first + j, c.accumulate ? start.row(i)[j] : 0);
      ASSERT_EQ(std::bit_cast<uint32_t>(got.row(i)[j]), std::bit_cast<uint32_t>(want))
          << "c[" << i << ", " << j << "] is " << got.row(i)[j] << ", want " << want;
    }
    for (int64_t j = c.n; j < c.n + 3; ++j) ASSERT_TRUE(std::isnan(got.row(i)[j]));
  }
}

TEST(Fp8GemmTest, HasTheBitsOfPlainLoopsInEveryFamily) {
  const int64_t sizes[][3] = {{1, 1, 1},     {3, 2, 2},     {17, 35, 300}, {5, 129, 128},
                              {61, 66, 129}, {30, 70, 127}, {2, 3, 1030}};
  for_each_tested_family([&](const Kernels& table, bool emulated) {
    for (GemmOp op : {GemmOp::kNT, GemmOp::kNN, GemmOp::kTN}) {
      for (const auto& [m, n, k] : sizes) {
        if (emulated && m * n * k > 200'000) continue;
        const bool tn = op == GemmOp::kTN;
        SCOPED_TRACE(str("op ", int(op), ": ", m, " x ", n, " x ", k));
        check(table, {op, m, n, k, 1, tn ? 1 : kTile});
        check(table, {op, m, n, k, kTile, kTile, true, false, 100});
        check(table, {op, m, n, k, 1, 1, true, true, 5});
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

TEST(Fp8GemmTest, BeyondEveryBlockSize) {
  for_each_tested_family([&](const Kernels& table, bool emulated) {
    if (emulated) return;
    check(table, {GemmOp::kNT, 500, 7, 140, 1, kTile});
    check(table, {GemmOp::kNN, 5, 1100, 140, 1, kTile});
    check(table, {GemmOp::kTN, 260, 530, 9, 1, 1, true});
  });
}

TEST(Fp8GemmTest, AScaleThatIsNanSpoilsItsLanesAlone) {
  for_each_tested_family([](const Kernels& table, bool) {
    Numbers a(20, 300, true, 1, false, 1), b(40, 300, true, kTile, false, 2);
    a.scales[size_t(7 * a.lane_stride() + 1)] = kFp8Nan;
    Matrix c({20, 40});
    Gemm g{.op = GemmOp::kNT, .m = 20, .n = 40, .k = 300, .a = a.operand(0), .b = b.operand(0)};
    g.c = c.data();
    g.c_stride = 40;
    const Buffer workspace(table.gemm_workspace(g));
    table.gemm(g, workspace.data());
    for (int64_t i = 0; i < 20; ++i) {
      for (int64_t j = 0; j < 40; ++j) EXPECT_EQ(std::isnan(c.row(i)[j]), i == 7);
    }
  });
}

// ---- codes

float scale_of(float amax) {
  if (!std::isfinite(amax)) return kFp8Nan;
  return amax == 0 ? 1 : std::max(amax / 448, std::numeric_limits<float>::min());
}

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

// A matrix whose tiles differ in size, with zeros, denormals and, by choice, what is not finite.
Matrix some_matrix(int64_t rows, int64_t cols, bool finite) {
  Matrix x = random_matrix(rows, cols, 4);
  Rng rng(5);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) x.row(r)[c] *= std::ldexp(1.0f, int(r % 90) - int(c % 70));
  }
  for (int64_t c = 0; c < std::min<int64_t>(cols, 140); ++c) x.row(0)[c] = 0;
  for (int64_t c = 0; c < cols; ++c) x.row(1)[c] = 1e-42f * float(c);
  if (!finite) {
    x.row(2)[0] = kFp8Nan;
    x.row(3)[cols - 1] = -kFp8Inf;
  }
  return x;
}

// Tiles of `down` x `across` of the listed rows.
void expect_tiles(In2 x, const std::vector<int32_t>& rows, int64_t down, int64_t across,
                  const std::vector<float>& values, const std::vector<float>& scales) {
  const auto m = int64_t(rows.size()), n = x.dim(1), per_row = (n + across - 1) / across;
  for (int64_t top = 0; top < m; top += down) {
    for (int64_t left = 0; left < n; left += across) {
      float amax = 0;
      bool finite = true;
      const int64_t bottom = std::min(m, top + down), right = std::min(n, left + across);
      for (int64_t r = top; r < bottom; ++r) {
        for (int64_t c = left; c < right; ++c) {
          amax = std::max(amax, std::abs(x.row(rows[size_t(r)])[c]));
          finite = finite && std::isfinite(x.row(rows[size_t(r)])[c]);
        }
      }
      const float scale = finite ? scale_of(amax) : kFp8Nan;
      const float got = scales[size_t(top / down * per_row + left / across)];
      ASSERT_TRUE(same(got, scale)) << got << ", want " << scale << " at " << top << ", " << left;
      if (!finite) continue;
      for (int64_t r = top; r < bottom; ++r) {
        for (int64_t c = left; c < right; ++c) {
          const float want = to_float(to_e4m3(x.row(rows[size_t(r)])[c] / scale));
          ASSERT_TRUE(same(values[size_t(r * n + c)], want))
              << values[size_t(r * n + c)] << " for " << x.row(rows[size_t(r)])[c] << " / "
              << scale;
        }
      }
    }
  }
}

TEST(Fp8CodecTest, TilesHaveTheCodesAndScalesOfTheRule) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (int64_t n : {1, 5, 64, 128, 200, 300}) {
      for (int64_t m : {5, 90, 128}) {
        const Matrix x = some_matrix(m + 3, n, n == 200);
        std::vector<int32_t> all(static_cast<size_t>(m)), list;
        for (int64_t r = 0; r < m; ++r) all[size_t(r)] = int32_t(r);
        for (int64_t r = 0; r < m; ++r) list.push_back(int32_t((r * 7) % (m + 3)));
        std::vector<uint8_t> codes(size_t(m * n));
        std::vector<bf16> numbers(codes.size());
        std::vector<float> scales(codes.size()), values(codes.size());
        auto* const bits = reinterpret_cast<uint16_t*>(numbers.data());
        const auto expect = [&](const std::vector<int32_t>& rows, int64_t down, int64_t across) {
          std::transform(numbers.begin(), numbers.end(), values.begin(),
                         [](bf16 number) { return to_float(number); });
          expect_tiles(x, rows, down, across, values, scales);
        };
        const int64_t tiles = (n + kTile - 1) / kTile;
        for (int64_t r = 0; r < m; ++r) {
          table.fp8_encode_row(x.row(r), n, codes.data() + r * n, scales.data() + r * tiles);
        }
        std::transform(codes.begin(), codes.end(), values.begin(),
                       [](uint8_t code) { return to_float(e4m3{code}); });
        expect_tiles(x, all, 1, kTile, values, scales);
        for (int64_t r = 0; r < m; ++r) {
          table.fp8_round_row(x.row(r), n, bits + r * n, scales.data() + r * tiles);
        }
        expect(all, 1, kTile);
        for (const auto& rows : {all, list}) {
          const int32_t* given = rows == all ? nullptr : rows.data();
          table.fp8_round_columns(x.data(), n, given, m, n, bits, scales.data());
          expect(rows, kTile, 1);
          table.fp8_round_blocks(x.data(), n, given, m, n, bits, scales.data());
          expect(rows, kTile, kTile);
        }
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

// With 448 in each tile, scales are 1: every code, what lies half way between two, and neighbours.
TEST(Fp8CodecTest, EveryE4m3CodeAndMidpoint) {
  std::vector<float> x;
  const auto see = [&](float v) {
    if (x.size() % kTile == 0) x.push_back(448);
    x.push_back(v);
  };
  for (int code = 0; code < 0x7e; ++code) {
    const float low = to_float(e4m3{uint8_t(code)}), high = to_float(e4m3{uint8_t(code + 1)});
    const float middle = (low + high) / 2;
    for (float v : {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 500.0f)}) {
      see(v);
      see(-v);
    }
  }
  for_each_tested_family([&](const Kernels& table, bool) {
    std::vector<uint8_t> codes(x.size());
    std::vector<float> scales(x.size()), y(x.size());
    table.fp8_encode_row(x.data(), int64_t(x.size()), codes.data(), scales.data());
    table.fp8_decode_row(codes.data(), scales.data(), int64_t(x.size()), y.data());
    std::vector<uint16_t> numbers(x.size());
    table.fp8_round_row(x.data(), int64_t(x.size()), numbers.data(), scales.data());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(numbers[i], to_bf16(to_float(e4m3{codes[i]})).bits) << x[i];
      EXPECT_EQ(codes[i], to_e4m3(x[i]).bits) << x[i];
      EXPECT_TRUE(same(y[i], to_float(e4m3{codes[i]}))) << x[i];
    }
  });
}

// What was decoded is encoded as it was: an exported model comes back bit for bit.
TEST(Fp8CodecTest, EncodingWhatWasDecodedChangesNothing) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    Rng rng(8);
    std::vector<float> x(kTile), y(kTile);
    std::vector<uint8_t> codes(kTile), again(kTile);
    for (int repeat = 0; repeat < (emulated ? 50 : 3000); ++repeat) {
      for (float& v : x) v = float(rng.normal() * std::exp(4 * rng.normal()));
      float scale = 0, scale_again = 0;
      table.fp8_encode_row(x.data(), kTile, codes.data(), &scale);
      table.fp8_decode_row(codes.data(), &scale, kTile, y.data());
      table.fp8_encode_row(y.data(), kTile, again.data(), &scale_again);
      ASSERT_EQ(scale, scale_again);
      ASSERT_EQ(codes, again);
    }
  });
}

double e5m6_value(uint32_t code) {
  const auto exponent = int(code >> 6 & 31u), mantissa = int(code & 63u);
  const double size =
      exponent == 0 ? std::ldexp(mantissa, -20) : std::ldexp(64 + mantissa, exponent - 21);
  return (code & 0x800u) != 0 ? -size : size;
}

TEST(Fp8CodecTest, E5m6IsTheNearestWithScalesThatArePowersOfTwo) {
  std::vector<double> values;
  for (uint32_t code = 0; code < 0x800; ++code) values.push_back(e5m6_value(code));
  for_each_tested_family([&](const Kernels& table, bool emulated) {
    Rng rng(6);
    for (int64_t n : {1, 2, 77, 128, 129, 300}) {
      for (int repeat = 0; repeat < (emulated ? 3 : 40); ++repeat) {
        std::vector<float> x(static_cast<size_t>(n)), y(x.size());
        const double spread = repeat % 5, size = std::exp(20 * rng.normal());
        for (float& v : x) v = float(size * rng.normal() * std::exp(spread * rng.normal()));
        const int64_t tiles = (n + kTile - 1) / kTile;
        std::vector<float> scales(size_t(tiles + 1), -7);
        const int64_t bytes = n / kTile * 192 + n % kTile + (n % kTile + 1) / 2;
        std::vector<uint8_t> codes(size_t(bytes + 1), 0xa5);
        table.e5m6_encode_row(x.data(), n, codes.data(), scales.data());
        table.e5m6_decode_row(codes.data(), scales.data(), n, y.data());
        EXPECT_EQ(codes[size_t(bytes)], 0xa5);
        EXPECT_EQ(scales[size_t(tiles)], -7);
        for (int64_t i = 0; i < n; ++i) {
          const double scale = double(scales[size_t(i / kTile)]);
          int exponent = 0;
          ASSERT_EQ(std::frexp(scale, &exponent), 0.5);
          const double want = std::abs(double(x[size_t(i)])) / scale;
          const auto above = std::upper_bound(values.begin(), values.end(), want);
          const auto low = size_t(above - values.begin()) - 1;
          size_t nearest = low;
          if (above != values.end()) {
            const double down = want - values[low], up = *above - want;
            if (up < down || (up == down && low % 2 == 1)) nearest = low + 1;
          }
          ASSERT_EQ(std::abs(double(y[size_t(i)])), values[nearest] * scale) << x[size_t(i)];
          ASSERT_EQ(std::signbit(y[size_t(i)]), std::signbit(x[size_t(i)]));
        }
        // No smaller scale holds the tile.
        for (int64_t t = 0; t < tiles; ++t) {
          double amax = 0;
          for (int64_t i = t * kTile; i < std::min(n, (t + 1) * kTile); ++i) {
            amax = std::max(amax, std::abs(double(x[size_t(i)])));
          }
          EXPECT_LE(amax, values.back() * double(scales[size_t(t)]));
          EXPECT_GT(amax, values.back() * double(scales[size_t(t)]) / 2);
        }
      }
    }
    std::vector<float> x(130, 1.0f), y(130), scales(2);
    std::vector<uint8_t> codes(200);
    x[3] = kFp8Inf;
    table.e5m6_encode_row(x.data(), 130, codes.data(), scales.data());
    table.e5m6_decode_row(codes.data(), scales.data(), 130, y.data());
    EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[3]));
    EXPECT_EQ(y[129], 1.0f);
  });
}

}  // namespace
}  // namespace hadal
