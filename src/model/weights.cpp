#include "model/weights.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/tensor.h"
#include "io/model_file.h"

namespace hadal {
namespace {

constexpr int64_t kNumbersPerTask = 1 << 16;
constexpr int64_t kMaxBlock = 1 << 16;
constexpr int64_t kNone = INT64_MAX;
constexpr size_t kLooks = 4;  // at a tensor that is not read whole to be checked

// Part of a tensor: rows x cols numbers from number `first` on. Matrices with scales are cut into
// whole rows of blocks, all others anywhere.
struct Piece {
  int64_t first, rows, cols;
};

std::vector<Piece> cut(int64_t rows, int64_t cols, int64_t block_rows) {
  const int64_t whole = kNumbersPerTask / std::max<int64_t>(cols * block_rows, 1) * block_rows;
  const int64_t step = std::max(whole, block_rows);
  std::vector<Piece> pieces;
  for (int64_t r = 0; r < rows; r += step) {
    pieces.push_back({r * cols, std::min(step, rows - r), cols});
  }
  return pieces;
}
std::vector<Piece> cut(int64_t numbers) {
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < numbers; i += kNumbersPerTask) {
    pieces.push_back({i, 1, std::min(kNumbersPerTask, numbers - i)});
  }
  return pieces;
}

// The first NaN or infinity, or kNone.
int64_t first_bad(std::span<const float> x) {
  uint32_t any = 0;
  for (const float v : x) {
    any |= static_cast<uint32_t>((std::bit_cast<uint32_t>(v) & 0x7f800000u) == 0x7f800000u);
  }
  if (any == 0) return kNone;
  const auto bad = std::find_if(x.begin(), x.end(), [](float v) { return !(v - v == 0); });
  return bad - x.begin();
}

// Likewise of numbers as they are stored: T is as wide, and those whose bits in `mask` are all set
// are none. Codes may lie at any byte.
template <class T>
int64_t first_bad_bits(const std::byte* codes, int64_t n, T mask) {
  constexpr int64_t kAtOnce = 256;
  for (int64_t i = 0; i < n; i += kAtOnce) {
    std::array<T, kAtOnce> bits{};
    const int64_t count = std::min(kAtOnce, n - i);
    std::memcpy(bits.data(), codes + i * int64_t{sizeof(T)},
                static_cast<size_t>(count) * sizeof(T));
    T any = 0;
    for (const T b : bits) any = static_cast<T>(any | static_cast<T>((b & mask) == mask));
    if (any == 0) continue;
    const auto bad =
        std::find_if(bits.begin(), bits.end(), [=](T b) { return (b & mask) == mask; });
    return i + (bad - bits.begin());
  }
  return kNone;
}
int64_t first_bad(DType dtype, const std::byte* codes, int64_t n) {
  switch (dtype) {
    case DType::kF8E4M3:
      return first_bad_bits<uint8_t>(codes, n, 0x7f);
    case DType::kF16:
      return first_bad_bits<uint16_t>(codes, n, 0x7c00);
    case DType::kBF16:
      return first_bad_bits<uint16_t>(codes, n, 0x7f80);
    default:
      return first_bad_bits<uint32_t>(codes, n, 0x7f800000);
  }
}

void keep_smallest(std::atomic<int64_t>& smallest, int64_t value) {
  int64_t now = smallest.load();
  while (value < now && !smallest.compare_exchange_weak(now, value)) {
  }
}

std::string position(int64_t index, std::span<const int64_t> shape) {
  std::vector<int64_t> place(shape.size());
  for (size_t axis = shape.size(); axis-- > 0;) {
    place[axis] = index % shape[axis];
    index /= shape[axis];
  }
  return shape_text(place);
}

[[noreturn]] void refuse_number(const std::string& where, int64_t index,
                                std::span<const int64_t> shape, float value) {
  throw Error(ErrorKind::kFormat, str(where, " at ", position(index, shape), " is ", value,
                                      ", expected finite numbers"));
}

// What reading a tensor needs besides its bytes.
struct Source {
  const TensorInfo* info;
  const Format* format;
  std::string where;
  Tensor<float, 2> scales;  // empty for formats without
  BlockShape block;
};

// Matrices in panels have a shape of their own.
std::vector<int64_t> stored_shape(const Format& format, std::span<const int64_t> shape) {
  if (format.block_bytes == 0) return {shape.begin(), shape.end()};
  return {blocks(shape[0], format.block.rows), blocks(shape[1], format.block.cols),
          format.block_bytes};
}

void check_shape(const Source& source, std::span<const int64_t> shape) {
  if (source.format != nullptr && source.format->block_bytes > 0) {
    HADAL_CHECK(shape.size() == 2, kShape, source.where, " is ", source.format->name,
                ", expected numbers of shape ", shape_text(shape));
    const std::vector<int64_t> stored = stored_shape(*source.format, shape);
    HADAL_CHECK(stored == source.info->shape, kShape, source.where, " has shape ",
                shape_text(source.info->shape), ", expected ", shape_text(stored), " for ",
                source.format->name, " of ", shape_text(shape));
    return;
  }
  HADAL_CHECK(
      std::equal(shape.begin(), shape.end(), source.info->shape.begin(), source.info->shape.end()),
      kShape, source.where, " has shape ", shape_text(source.info->shape), ", expected ",
      shape_text(shape));
}

// V3's name for the scales of tensor `name`.
std::string scale_name(const std::string& name) {
  return name + "_scale_inv";
}

// Stored as exponents, which are no weights: only scales are.
void read_exponents(const Checkpoint& checkpoint, const std::string& name,
                    std::span<const int64_t> shape, std::span<float> out) {
  check_shape({&checkpoint.at(name), nullptr, checkpoint.where(name), {}, {}}, shape);
  std::vector<std::byte> bits(out.size());
  checkpoint.read(name, 0, bits);
  for (size_t i = 0; i < out.size(); ++i) out[i] = to_float(e8m0{static_cast<uint8_t>(bits[i])});
  const int64_t bad = first_bad(out);
  if (bad != kNone) {
    refuse_number(checkpoint.where(name), bad, shape, out[static_cast<size_t>(bad)]);
  }
}

void read_scales(const Checkpoint& checkpoint, const std::string& name, BlockShape block,
                 Source& source) {
  HADAL_CHECK(source.info->shape.size() == 2, kShape, source.where, " is ",
              dtype_name(source.info->dtype), " of shape ", shape_text(source.info->shape),
              ", expected a matrix");
  HADAL_CHECK(
      std::min(block.rows, block.cols) >= 1 && std::max(block.rows, block.cols) <= kMaxBlock,
      kConfig, source.where, ": weight_block_size [", block.rows, ", ", block.cols,
      "], expected numbers from 1 to ", kMaxBlock);
  const std::string scales = scale_name(name);
  HADAL_CHECK(checkpoint.contains(scales), kFormat, source.where, " is ",
              dtype_name(source.info->dtype), " but has no ", quote_name(scales));
  const DType dtype = checkpoint.at(scales).dtype;
  const bool exponents = dtype == DType::kF8E8M0;
  HADAL_CHECK(exponents || dtype == DType::kF32 || dtype == DType::kBF16, kFormat,
              checkpoint.where(scales), " is ", dtype_name(dtype),
              ", expected F32, BF16 or F8_E8M0");
  const std::array<int64_t, 2> shape{blocks(source.info->shape[0], block.rows),
                                     blocks(source.info->shape[1], block.cols)};
  source.scales = Tensor<float, 2>(shape);
  source.block = block;
  const std::span<float> out(source.scales.data(), static_cast<size_t>(source.scales.size()));
  if (exponents) {
    read_exponents(checkpoint, scales, shape, out);
  } else {
    read_weight(checkpoint, scales, shape, out);
  }
  const auto bad = std::find_if(out.begin(), out.end(), [](float s) { return s <= 0; });
  HADAL_CHECK(bad == out.end(), kFormat, checkpoint.where(scales), " at ",
              position(bad - out.begin(), shape), " is ", *bad, ", expected positive scales");
}

Source find_source(const Checkpoint& checkpoint, const std::string& name,
                   std::span<const int64_t> shape, BlockShape block) {
  Source source{&checkpoint.at(name), nullptr, checkpoint.where(name), {}, {}};
  source.format = packed_format(checkpoint, name);
  check_shape(source, shape);
  if (source.format == nullptr) source.format = format_of(source.info->dtype);
  HADAL_CHECK(source.format != nullptr, kFormat, source.where, " is ",
              dtype_name(source.info->dtype),
              ", expected F32, BF16, F16 or F8_E4M3, or U8 in panels of int8 or int4");
  if (source.format->block_bytes > 0) {
    source.block = source.format->block;
  } else if (source.format->block != BlockShape{}) {
    read_scales(checkpoint, name, block, source);
  } else {
    HADAL_CHECK(!checkpoint.contains(scale_name(name)), kFormat, source.where, " is ",
                dtype_name(source.info->dtype), ", which has no scales, but there is ",
                quote_name(scale_name(name)));
  }
  return source;
}

void decode_piece(const Checkpoint& checkpoint, const Source& source, const Piece& piece,
                  float* out) {
  const Format& format = *source.format;
  const int64_t size = code_bytes(format, piece.rows, piece.cols);
  std::vector<std::byte> codes(static_cast<size_t>(size));
  // Of a matrix in blocks, all before the piece are whole; of others, rows mean nothing.
  const int64_t before = format.block_bytes > 0
                             ? code_bytes(format, piece.first / piece.cols, piece.cols)
                             : piece.first * dtype_size(format.dtype);
  checkpoint.read(source.info->name, before, codes);
  EncodedIn encoded{codes.data(), {}, source.block};
  if (!source.scales.empty()) {
    const int64_t top = piece.first / piece.cols / source.block.rows;
    encoded.scales = In2(source.scales).rows(top, top + blocks(piece.rows, source.block.rows));
  }
  source.format->decode(encoded, {out, {piece.rows, piece.cols}});
}

// The decoded piece, checked, into `out`: directly where `out` is floats.
int64_t read_piece(const Checkpoint& checkpoint, const Source& source, const Piece& piece,
                   std::span<float> out) {
  decode_piece(checkpoint, source, piece, out.data());
  return first_bad(out);
}
int64_t read_piece(const Checkpoint& checkpoint, const Source& source, const Piece& piece,
                   std::span<bf16> out) {
  std::vector<float> numbers(out.size());
  decode_piece(checkpoint, source, piece, numbers.data());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = to_bf16(numbers[i]);
    numbers[i] = to_float(out[i]);  // rounding may overflow
  }
  return first_bad(numbers);
}

template <class T>
void read_any(const Checkpoint& checkpoint, const std::string& name, std::span<const int64_t> shape,
              std::span<T> out, BlockShape block) {
  const Source source = find_source(checkpoint, name, shape, block);
  const int64_t numbers =
      source.format->block_bytes > 0 ? shape[0] * shape[1] : source.info->size();
  HADAL_CHECK(static_cast<int64_t>(out.size()) == numbers, kInternal, source.where, " has ",
              numbers, " numbers, the caller has room for ", out.size());
  const std::vector<Piece> pieces =
      source.block.rows > 0 ? cut(shape[0], shape[1], source.block.rows) : cut(numbers);
  std::atomic<int64_t> bad{kNone};
  parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const std::span<T> part =
        out.subspan(static_cast<size_t>(piece.first), static_cast<size_t>(piece.rows * piece.cols));
    const int64_t at = read_piece(checkpoint, source, piece, part);
    if (at != kNone) keep_smallest(bad, piece.first + at);
  });
  if (bad == kNone) return;
  float value = 0;
  if constexpr (std::is_same_v<T, float>) {
    value = out[static_cast<size_t>(bad.load())];
  } else {
    value = to_float(out[static_cast<size_t>(bad.load())]);
  }
  refuse_number(source.where, bad, shape, value);
}

// Some pieces from all over.
std::vector<Piece> some_of(const std::vector<Piece>& pieces) {
  std::vector<Piece> some;
  for (size_t i = 0; i < kLooks; ++i)
    some.push_back(pieces[(pieces.size() - 1) * i / (kLooks - 1)]);
  return some;
}

// Refuses mapped bytes that are no finite numbers.
void check_numbers(const Source& source, std::span<const int64_t> shape,
                   std::span<const std::byte> bytes, Check check) {
  const DType dtype = source.info->dtype;
  const int64_t size = dtype_size(dtype);
  std::vector<Piece> pieces = cut(source.info->size());
  if (check == Check::kSome && pieces.size() > kLooks) pieces = some_of(pieces);
  std::atomic<int64_t> bad{kNone};
  parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const int64_t at = first_bad(dtype, bytes.data() + piece.first * size, piece.cols);
    if (at != kNone) keep_smallest(bad, piece.first + at);
  });
  if (bad == kNone) return;
  float value = std::numeric_limits<float>::quiet_NaN();
  const std::byte* code = bytes.data() + bad * size;
  if (source.scales.empty()) source.format->decode({code, {}, {}}, {&value, {1, 1}});
  refuse_number(source.where, bad, shape, value);
}

// As a whole: scales are few, and their tensor follows.
void write_fp8(CheckpointWriter& writer, const TensorSpec& spec, std::span<const float> values) {
  HADAL_CHECK(static_cast<int64_t>(values.size()) == spec.size(), kInternal, "tensor ",
              quote_name(spec.name), ": ", values.size(), " numbers, expected ", spec.size());
  const int64_t bad = first_bad(values);
  if (bad != kNone) {
    refuse_number(str("tensor ", quote_name(spec.name)), bad, spec.shape,
                  values[static_cast<size_t>(bad)]);
  }
  const int64_t rows = spec.shape[0], cols = spec.shape[1];
  std::vector<std::byte> codes(values.size());
  const Tensor<float, 2> scales({blocks(rows, kFp8Block.rows), blocks(cols, kFp8Block.cols)});
  encode_fp8({values.data(), {rows, cols}}, {codes.data(), scales, kFp8Block});
  writer.write(spec.name, codes);
  writer.write(scale_name(spec.name),
               std::as_bytes(std::span(scales.data(), static_cast<size_t>(scales.size()))));
}

}  // namespace

void read_weight(const Checkpoint& checkpoint, const std::string& name,
                 std::span<const int64_t> shape, std::span<float> out, BlockShape fp8_block) {
  read_any(checkpoint, name, shape, out, fp8_block);
}

void read_weight(const Checkpoint& checkpoint, const std::string& name,
                 std::span<const int64_t> shape, std::span<bf16> out, BlockShape fp8_block) {
  read_any(checkpoint, name, shape, out, fp8_block);
}

const Format* packed_format(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo& info = checkpoint.at(name);
  return info.shape.size() == 3 ? format_of(info.dtype, info.shape[2]) : nullptr;
}

int64_t weight_row_step(const Checkpoint& checkpoint, const std::string& name,
                        BlockShape fp8_block) {
  const Format* packed = packed_format(checkpoint, name);
  if (packed != nullptr) return packed->block.rows;
  return checkpoint.at(name).dtype == DType::kF8E4M3 ? fp8_block.rows : 1;
}

void read_rows(const Checkpoint& checkpoint, const std::string& name,
               std::span<const int64_t> shape, int64_t first, Out2 out, BlockShape fp8_block) {
  const Source source = find_source(checkpoint, name, shape, fp8_block);
  const int64_t rows = out.dim(0), cols = out.dim(1);
  HADAL_CHECK(shape.size() <= 2 && cols == shape.back() && out.row_stride() == cols &&
                  first % weight_row_step(checkpoint, name, fp8_block) == 0,
              kInternal, source.where, ": rows from ", first, " of ", cols, " numbers");
  const Piece piece{first * cols, rows, cols};
  const auto size = static_cast<size_t>(rows * cols);
  const int64_t at = read_piece(checkpoint, source, piece, std::span<float>(out.data(), size));
  if (at != kNone) refuse_number(source.where, piece.first + at, shape, out.data()[at]);
}

std::span<const std::byte> map_panels(const Checkpoint& checkpoint, const std::string& name,
                                      std::span<const int64_t> shape) {
  const Source source = find_source(checkpoint, name, shape, {});
  const std::span<const std::byte> bytes = checkpoint.view(name);
  const int64_t size = source.format->block_bytes;
  const int64_t count = static_cast<int64_t>(bytes.size()) / size;
  // Some blocks from all over: what is no weights, or other ones, shows; and a file of many
  // gigabytes is not read for it. A product with a scale missed here is NaN, which ends a request
  // with an error.
  std::vector<uint16_t> scales(static_cast<size_t>(source.block.rows));
  for (int64_t i = 0; i < std::min<int64_t>(count, kLooks); ++i) {
    const int64_t b = count <= int64_t{kLooks} ? i : (count - 1) * i / (int64_t{kLooks} - 1);
    std::memcpy(scales.data(), bytes.data() + b * size, scales.size() * sizeof(uint16_t));
    for (const uint16_t s : scales) {
      HADAL_CHECK((s & 0x7f80u) != 0x7f80u, kFormat, source.where, ": block ", b,
                  " has a scale that is NaN or infinite");
    }
  }
  return bytes;
}

std::span<const std::byte> map_weight(const Checkpoint& checkpoint, const std::string& name,
                                      std::span<const int64_t> shape, DType dtype, Check check) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16, kInternal,
              "map_weight: ", dtype_name(dtype), ", expected F32, BF16 or F16");
  const std::span<const std::byte> bytes = checkpoint.view(name);
  const auto alignment = static_cast<uintptr_t>(dtype_size(dtype));
  if (checkpoint.at(name).dtype != dtype ||
      reinterpret_cast<uintptr_t>(bytes.data()) % alignment != 0) {
    return {};
  }
  const Source source = find_source(checkpoint, name, shape, {});
  check_numbers(source, shape, bytes, check);
  return bytes;
}

MappedCodes map_codes(const Checkpoint& checkpoint, const std::string& name,
                      std::span<const int64_t> shape, Check check) {
  if (checkpoint.at(name).dtype != DType::kF8E4M3) return {};
  Source source = find_source(checkpoint, name, shape, kFp8Block);
  for (int64_t i = 0; i < source.scales.size(); ++i) {
    // Codes could be infinite numbers: whoever reads them says whether they are.
    if (source.scales.data()[i] > std::numeric_limits<float>::max() / kE4m3Max) return {};
  }
  const std::span<const std::byte> bytes = checkpoint.view(name);
  check_numbers(source, shape, bytes, check);
  return {bytes, std::move(source.scales)};
}

void write_rows(CheckpointWriter& writer, const std::string& name, const Format& format, In2 rows) {
  const bool scaled = format.block_bytes == 0 && format.block != BlockShape{};
  std::vector<std::byte> codes(static_cast<size_t>(code_bytes(format, rows.dim(0), rows.dim(1))));
  const Tensor<float, 2> scales({scaled ? blocks(rows.dim(0), format.block.rows) : 0,
                                 scaled ? blocks(rows.dim(1), format.block.cols) : 0});
  format.encode(rows, {codes.data(), scales, format.block});
  writer.write(name, codes);
  if (!scaled) return;
  writer.write(scale_name(name),
               std::as_bytes(std::span(scales.data(), static_cast<size_t>(scales.size()))));
}

std::vector<TensorSpec> weight_specs(const std::string& name, const std::vector<int64_t>& shape,
                                     const Format& format) {
  if (format.block_bytes == 0) return weight_specs(name, shape, format.dtype);
  return {{name, format.dtype, stored_shape(format, shape)}};
}

std::vector<TensorSpec> weight_specs(const std::string& name, const std::vector<int64_t>& shape,
                                     DType dtype) {
  std::vector<TensorSpec> specs{{name, dtype, shape}};
  if (dtype == DType::kF8E4M3) {
    specs.push_back({scale_name(name),
                     DType::kF32,
                     {blocks(shape.at(0), kFp8Block.rows), blocks(shape.at(1), kFp8Block.cols)}});
  }
  return specs;
}

void write_weight(CheckpointWriter& writer, const std::string& name,
                  std::span<const float> values) {
  const TensorSpec& spec = writer.at(name);
  if (spec.dtype == DType::kF8E4M3) return write_fp8(writer, spec, values);
  const Format* format = format_of(spec.dtype);
  HADAL_CHECK(format != nullptr && format->block == BlockShape{}, kInternal, "tensor ",
              quote_name(name), " was declared as ", dtype_name(spec.dtype),
              ", expected F32, BF16, F16 or F8_E4M3");
  HADAL_CHECK(static_cast<int64_t>(values.size()) == spec.size(), kInternal, "tensor ",
              quote_name(name), ": ", values.size(), " numbers, expected ", spec.size());
  std::vector<std::byte> codes;
  std::vector<float> decoded;
  for (const Piece& piece : cut(spec.size())) {
    codes.resize(static_cast<size_t>(piece.cols * dtype_size(spec.dtype)));
    decoded.resize(static_cast<size_t>(piece.cols));
    format->encode(In2(values.data() + piece.first, {1, piece.cols}), {codes.data(), {}, {}});
    format->decode({codes.data(), {}, {}}, {decoded.data(), {1, piece.cols}});
    const int64_t at = first_bad(decoded);
    if (at != kNone) {
      const float value = values[static_cast<size_t>(piece.first + at)];
      const std::string where = str("tensor ", quote_name(name));
      HADAL_CHECK(!(value - value == 0), kFormat, where, " at ",
                  position(piece.first + at, spec.shape), " is ", value, ", which is infinite in ",
                  dtype_name(spec.dtype));
      refuse_number(where, piece.first + at, spec.shape, value);
    }
    writer.write(name, codes);
  }
}

}  // namespace hadal
