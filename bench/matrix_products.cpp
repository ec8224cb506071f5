// Shares of the machine's roofs that matrix products reach, at the shapes of training (GEMM: of the
// FMA peak) and of generation (matrix-vector: of the DRAM read rate). Each is timed in turn with
// its roof, so that what else the machine does falls on both; best of best, and median of median.
//   matrix_products [seconds per line] [part of a line's name]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/kernels.h"
#include "ops/linear.h"
#include "quant/formats.h"

namespace hadal {
namespace {

double now() {
  timespec t{};
  ::clock_gettime(num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
using Matrix = Tensor<float, 2>;

double seconds_per_line = 1;
std::string only;

Matrix numbers(int64_t rows, int64_t cols) {
  Matrix m({rows, cols});
  Rng rng(1, static_cast<uint64_t>(rows * cols));
  for (int64_t i = 0; i < m.size(); ++i) {
    m.data()[i] = static_cast<float>(rng.uniform()) - 0.5f;
  }
  return m;
}
struct Samples {
  std::vector<double> rates;
  void time(double work, const std::function<void()>& fn) {
    const double start = now();
    fn();
    rates.push_back(work / (now() - start) / 1e9);
  }
  double at(double share) {
    std::sort(rates.begin(), rates.end());
    return rates[static_cast<size_t>(share * static_cast<double>(rates.size() - 1))];
  }
};

// fn does `work` (operations or bytes), roof does as much of its kind.
void line(const std::string& name, const char* unit, double work, const std::function<void()>& roof,
          const std::function<void()>& fn) {
  if (name.find(only) == std::string::npos) return;
  Samples roofs, got;
  fn();
  const double start = now();
  do {
    roofs.time(work, roof);
    got.time(work, fn);
  } while (now() - start < seconds_per_line || got.rates.size() < 5);
  std::printf("%-52s %7.1f %s  %3.0f%% of the roof (median %7.1f, %3.0f%%)\n", name.c_str(),
              got.at(1), unit, 100 * got.at(1) / roofs.at(1), got.at(0.5),
              100 * got.at(0.5) / roofs.at(0.5));
  std::fflush(stdout);
}

// So many floating-point operations of the precision, on every thread.
std::function<void()> arithmetic_roof(double operations, Precision precision) {
  const auto peak = precision == Precision::kBf16 ? kernels().peak_bf16 : kernels().peak_fp32;
  const auto steps =
      static_cast<int64_t>(operations / static_cast<double>(num_threads()) / peak(1));
  return [=] {
    parallel_for(num_threads(), 1, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) peak(steps);
    });
  };
}

const char* precision_name(Precision p) {
  return p == Precision::kBf16 ? "bf16" : "fp32";
}

void bench_linear(int64_t rows, int64_t n, int64_t k, Precision precision) {
  const Matrix x = numbers(rows, k), w = numbers(n, k), dy = numbers(rows, n);
  const Matrix y({rows, n}), dx({rows, k}), dw({n, k});
  const double work = 2.0 * static_cast<double>(rows) * static_cast<double>(n * k);
  const auto roof = arithmetic_roof(work, precision);
  const std::string shape = std::string(precision_name(precision)) + " T " + std::to_string(rows) +
                            ", " + std::to_string(k) + " -> " + std::to_string(n);
  line("linear          " + shape, "GF/s", work, roof,
       [&] { linear(x, w.view(), {}, y, precision); });
  line("linear dx       " + shape, "GF/s", work, roof,
       [&] { linear_backward(dy, x, w.view(), dx, {}, {}, precision); });
  line("linear dw       " + shape, "GF/s", work, roof,
       [&] { linear_backward(dy, x, w.view(), {}, dw, {}, precision); });
}

void bench_grouped(int64_t tokens, int64_t top_k, int64_t experts, int64_t n, int64_t k,
                   Precision precision) {
  const int64_t slots = tokens * top_k;
  const Matrix x = numbers(tokens, k), dy = numbers(slots, n);
  const Matrix y({slots, n}), dx({slots, k});
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> list;
  Rng rng(3);
  for (int64_t e = 0; e < experts; ++e) {  // uneven: from half to one and a half of the mean
    const int64_t mean = slots / experts;
    const int64_t left = slots - offsets.back(), count = mean / 2 + rng.below(mean + 1);
    offsets.push_back(e + 1 == experts ? slots : offsets.back() + std::min(left, count));
  }
  for (int64_t s = 0; s < slots; ++s) list.push_back(static_cast<int32_t>(rng.below(tokens)));
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    std::sort(list.begin() + offsets[e], list.begin() + offsets[e + 1]);
  }
  std::vector<Matrix> w, dw;
  std::vector<WeightView> views;
  std::vector<Out2> d_views;
  for (int64_t e = 0; e < experts; ++e) {
    w.push_back(numbers(n, k));
    dw.emplace_back(std::array<int64_t, 2>{n, k});
    views.emplace_back(w.back().view());
    d_views.push_back(dw.back());
  }
  const ExpertRows rows{{list.data(), {slots}}, offsets}, by_slot{{}, offsets};
  const double work = 2.0 * static_cast<double>(slots) * static_cast<double>(n * k);
  const auto roof = arithmetic_roof(work, precision);
  const std::string shape = std::string(precision_name(precision)) + " " + std::to_string(experts) +
                            " experts, " + std::to_string(k) + " -> " + std::to_string(n);
  line("grouped         " + shape, "GF/s", work, roof,
       [&] { grouped_linear(x, rows, views, y, precision); });
  line("grouped dx      " + shape, "GF/s", work, roof,
       [&] { grouped_linear_backward(dy, by_slot, {}, {}, views, dx, {}, precision); });
  line("grouped dw      " + shape, "GF/s", work, roof,
       [&] { grouped_linear_backward(dy, by_slot, x, rows, views, {}, d_views, precision); });
}

// A weight in a format that products read as it is stored, several times over.
class Stored {
 public:
  Stored(const char* format, int64_t n, int64_t k, int64_t count)
      : format_(find_format(format)), n_(n), k_(k), bytes_(code_bytes(format_, n, k)) {
    const BlockShape block = format_.block;
    if (block != BlockShape{}) scales_ = Matrix({blocks(n, block.rows), blocks(k, block.cols)});
    memory_ = Buffer(count * bytes_);
    format_.encode(numbers(n, k), {memory_.data(), scales_, block});
    for (int64_t i = 1; i < count; ++i) {
      std::memcpy(memory_.data() + i * bytes_, memory_.data(), static_cast<size_t>(bytes_));
    }
  }
  WeightView operator[](int64_t i) const {
    WeightView w(format_.dtype, memory_.data() + i * bytes_, n_, k_);
    w.block_bytes = format_.block_bytes;
    if (w.dtype == DType::kF8E4M3) w.scales = scales_.data();
    return w;
  }
  const Buffer& memory() const { return memory_; }

 private:
  const Format& format_;
  int64_t n_, k_, bytes_;
  Matrix scales_;
  Buffer memory_;
};

// Matrices enough that none is in the caches when its turn comes again.
void bench_decode(int64_t rows, int64_t n, int64_t k, const char* format, int64_t streams) {
  const int64_t total = int64_t{256} << 20;
  const int64_t count = std::max<int64_t>(1, total / code_bytes(find_format(format), n, k));
  const Matrix x = numbers(rows, k), y({rows, n});
  const Stored w(format, n, k, count);
  const Buffer& memory = w.memory();
  const auto roof = [&] {
    const int64_t step = 128 * streams, share = memory.bytes() / num_threads() / step * step;
    parallel_for(num_threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        kernels().read_memory(memory.data() + i * share, share, streams);
      }
    });
  };
  const auto decode = [&] {
    for (int64_t i = 0; i < count; ++i) linear_decode(x, w[i], {}, y);
  };
  line(std::string("decode ") + format + " " + std::to_string(rows) + " rows, " +
           std::to_string(k) + " -> " + std::to_string(n) + ", roof of " + std::to_string(streams) +
           " streams",
       "GB/s", static_cast<double>(memory.bytes()), roof, decode);
}

// A prompt's products with weights as they are stored: one matrix, and experts that each have as
// many of the rows.
void bench_prompt(const char* format, int64_t tokens, int64_t experts, int64_t top_k, int64_t n,
                  int64_t k, Precision precision) {
  const Matrix x = numbers(tokens, k);
  const int64_t slots = tokens * top_k;
  const Matrix y({slots, n});
  const Stored w(format, n, k, experts);
  std::vector<WeightView> views;
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> list;
  for (int64_t e = 0; e < experts; ++e) {
    views.push_back(w[e]);
    offsets.push_back(slots * (e + 1) / experts);
  }
  for (int64_t s = 0; s < slots; ++s) list.push_back(static_cast<int32_t>(s % tokens));
  const ExpertRows rows{{list.data(), {slots}}, offsets};
  const double work = 2.0 * static_cast<double>(slots) * static_cast<double>(n * k);
  const std::string shape = std::string(format) + " in " + precision_name(precision) + ", " +
                            std::to_string(slots / experts) + " rows for each of " +
                            std::to_string(experts) + ", " + std::to_string(k) + " -> " +
                            std::to_string(n);
  line("prompt " + shape, "GF/s", work, arithmetic_roof(work, precision),
       [&] { grouped_linear(x, rows, views, y, precision); });
}

void run() {
  std::printf("kernel family %s, %lld threads\n", kernels().family,
              static_cast<long long>(num_threads()));
  for (Precision precision : {Precision::kFp32, Precision::kBf16}) {
    bench_linear(4096, 256, 256, precision);
    bench_linear(4096, 1024, 256, precision);
    bench_linear(4096, 256, 1024, precision);
    bench_linear(4096, 1024, 1024, precision);
    bench_linear(512, 8192, 256, precision);
    bench_grouped(4096, 4, 32, 192, 256, precision);
    bench_grouped(4096, 4, 32, 256, 192, precision);
  }
  for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
    for (const char* format : {"bf16", "fp8", "fp16"}) {
      bench_prompt(format, 512, 1, 1, 2048, 2048, precision);
      bench_prompt(format, 512, 64, 6, 1408, 2048, precision);
    }
  }
  for (const char* format : {"bf16", "fp32", "fp8", "fp16"}) {
    for (int64_t rows : {1, 4, 16}) bench_decode(rows, 1408, 2048, format, 2);
  }
  bench_decode(1, 1408, 2048, "bf16", 4);
  bench_decode(1, 1408, 2048, "fp8", 4);
  bench_decode(1, 2048, 7168, "bf16", 2);
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  if (argc > 1) hadal::seconds_per_line = std::atof(argv[1]);
  if (argc > 2) hadal::set_num_threads(std::atoll(argv[2]));
  if (argc > 3) hadal::only = argv[3];
  hadal::run();
}
