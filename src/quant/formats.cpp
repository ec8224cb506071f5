#include "quant/formats.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "core/parallel.h"
#include "quant/fp8.h"
#include "quant/int4.h"
#include "quant/int8.h"
#include "quant/panels.h"

namespace hadal {
namespace {

constexpr int64_t kNumbersPerTask = 1 << 16;

int64_t rows_per_task(int64_t cols) {
  return std::max<int64_t>(1, kNumbersPerTask / std::max<int64_t>(cols, 1));
}

float widen(float x) {
  return x;
}
template <class T>
float widen(T x) {
  return to_float(x);
}
void narrow(float x, float& out) {
  out = x;
}
void narrow(float x, bf16& out) {
  out = to_bf16(x);
}
void narrow(float x, fp16& out) {
  out = to_fp16(x);
}

// Formats without scales. Codes come from files and may lie at any byte, hence memcpy.
template <class T>
void decode_plain(const EncodedIn& in, Out2 out) {
  const int64_t cols = out.dim(1);
  parallel_for(out.dim(0), rows_per_task(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const std::byte* codes = in.codes + r * cols * static_cast<int64_t>(sizeof(T));
      float* y = out.row(r);
      for (int64_t c = 0; c < cols; ++c) {
        T code;
        std::memcpy(&code, codes + c * static_cast<int64_t>(sizeof(T)), sizeof(T));
        y[c] = widen(code);
      }
    }
  });
}

template <class T>
void encode_plain(In2 in, const EncodedOut& out) {
  const int64_t cols = in.dim(1);
  parallel_for(in.dim(0), rows_per_task(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::byte* codes = out.codes + r * cols * static_cast<int64_t>(sizeof(T));
      const float* x = in.row(r);
      for (int64_t c = 0; c < cols; ++c) {
        T code;
        narrow(x[c], code);
        std::memcpy(codes + c * static_cast<int64_t>(sizeof(T)), &code, sizeof(T));
      }
    }
  });
}

void encode_fp8_weights(In2 in, const EncodedOut& out) {
  encode_fp8(in, out);
}

constexpr double kFp8Bits = 8 + 32.0 / static_cast<double>(kFp8Block.rows * kFp8Block.cols);

constexpr double panel_bits(int64_t block_bytes) {
  return 8.0 * static_cast<double>(block_bytes) / static_cast<double>(kPanelRows * kPanelCols);
}

constexpr std::array kFormats{
    Format{"fp32", DType::kF32, {}, 32, decode_plain<float>, encode_plain<float>},
    Format{"bf16", DType::kBF16, {}, 16, decode_plain<bf16>, encode_plain<bf16>},
    Format{"fp16", DType::kF16, {}, 16, decode_plain<fp16>, encode_plain<fp16>},
    Format{"fp8", DType::kF8E4M3, kFp8Block, kFp8Bits, decode_fp8, encode_fp8_weights},
    Format{"int8", DType::kU8, kPanelBlock, panel_bits(kInt8BlockBytes), decode_int8, encode_int8,
           kInt8BlockBytes},
    Format{"int4", DType::kU8, kPanelBlock, panel_bits(kInt4BlockBytes), decode_int4, encode_int4,
           kInt4BlockBytes},
};

}  // namespace

int64_t code_bytes(const Format& format, int64_t rows, int64_t cols) {
  if (format.block_bytes == 0) return rows * cols * dtype_size(format.dtype);
  return blocks(rows, format.block.rows) * blocks(cols, format.block.cols) * format.block_bytes;
}

int64_t scale_bytes(const Format& format, int64_t rows, int64_t cols) {
  if (format.block_bytes > 0) return 0;
  return blocks(rows, format.block.rows) * blocks(cols, format.block.cols) *
         dtype_size(DType::kF32);
}

std::span<const Format> formats() {
  return kFormats;
}

const Format& find_format(std::string_view name) {
  std::string known;
  for (const Format& f : kFormats) {
    if (f.name == name) return f;
    known += (known.empty() ? "" : ", ") + std::string(f.name);
  }
  throw Error(ErrorKind::kUsage, str("format \"", name, "\" is unknown; expected one of ", known));
}

const Format* format_of(DType dtype, int64_t block_bytes) {
  for (const Format& f : kFormats) {
    if (f.dtype == dtype && f.block_bytes == block_bytes) return &f;
  }
  return nullptr;
}

}  // namespace hadal
