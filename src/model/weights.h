#pragma once
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "io/checkpoint.h"
#include "quant/fp8.h"

namespace hadal {

// Weights between a checkpoint's bytes (io/) and numbers (quant/).

// Reads tensor `name` of the given shape into `out` (its size: the product of the shape). F32, BF16
// and F16 convert; F8_E4M3 is decoded with its `<name>_scale_inv` (F32, BF16 or the powers of two
// of F8_E8M0) over blocks of `fp8_block` (config's weight_block_size), U8 as the panels that its
// last dimension tells. To bf16 the decoded float is rounded to nearest even. Split over threads;
// the same bits for any number of them.
// Errors, each naming file, tensor, value and expectation, leave `out` in part written:
//   kFormat  the tensor is missing; its dtype holds no weights; a number is NaN or infinite; a
//            scale is missing, zero, negative, NaN or infinite, or there is one for another dtype
//   kShape   its shape, or its scales', is not the expected one
//   kIo      the file cannot be read or was cut short
void read_weight(const Checkpoint& checkpoint, const std::string& name,
                 std::span<const int64_t> shape, std::span<float> out,
                 BlockShape fp8_block = kFp8Block);
void read_weight(const Checkpoint& checkpoint, const std::string& name,
                 std::span<const int64_t> shape, std::span<bf16> out,
                 BlockShape fp8_block = kFp8Block);

// Rows [first, first + out.dim(0)) of a matrix, likewise. `first` is a multiple of
// weight_row_step(), the least number of rows that can be read by themselves.
void read_rows(const Checkpoint& checkpoint, const std::string& name,
               std::span<const int64_t> shape, int64_t first, Out2 out,
               BlockShape fp8_block = kFp8Block);
int64_t weight_row_step(const Checkpoint& checkpoint, const std::string& name,
                        BlockShape fp8_block = kFp8Block);

// The format of a weight that is stored as int8 or int4; null for others.
const Format* packed_format(const Checkpoint& checkpoint, const std::string& name);
// The mapped panels of such a weight; a few of its scales are checked. As map_weight otherwise.
std::span<const std::byte> map_panels(const Checkpoint& checkpoint, const std::string& name,
                                      std::span<const int64_t> shape);

// How many numbers of a mapped tensor are looked at: what memory cannot hold is not read for it.
enum class Check { kAll, kSome };

// The mapped codes of an F8_E4M3 tensor in blocks of 128 x 128 and its scales, in FP32; both are
// checked. No codes for a tensor that is stored otherwise, or whose scales are so large that
// numbers could be infinite: read it then. As map_weight otherwise.
struct MappedCodes {
  std::span<const std::byte> codes;
  Tensor<float, 2> scales;
};
MappedCodes map_codes(const Checkpoint& checkpoint, const std::string& name,
                      std::span<const int64_t> shape, Check check = Check::kAll);

// The mapped bytes of a tensor stored as `dtype` (F32, BF16 or F16) if they can be used in place,
// checked as above; empty when the tensor is stored otherwise or not aligned for its dtype: read it
// then. The checkpoint must outlive the bytes; see SafetensorsFile::view about check_intact().
std::span<const std::byte> map_weight(const Checkpoint& checkpoint, const std::string& name,
                                      std::span<const int64_t> shape, DType dtype,
                                      Check check = Check::kAll);

// The tensors that hold a weight stored as `dtype`: one, and for F8_E4M3 its scales, which are F32.
std::vector<TensorSpec> weight_specs(const std::string& name, const std::vector<int64_t>& shape,
                                     DType dtype);
// The same by format: int8 and int4 are one U8 tensor [panels, blocks, bytes of a block].
std::vector<TensorSpec> weight_specs(const std::string& name, const std::vector<int64_t>& shape,
                                     const Format& format);
// Appends rows to a matrix declared so. All but the last call give whole blocks of the format.
void write_rows(CheckpointWriter& writer, const std::string& name, const Format& format, In2 rows);
// Writes a whole weight that was declared by weight_specs as F32, BF16 or F16, rounding to nearest
// even, or as F8_E4M3: codes and scales of 128 x 128 blocks, those that FP8 products compute with
// (ops/fp8.h). NaN and infinity are refused here too, Error{kFormat}: no reader would take the
// file.
void write_weight(CheckpointWriter& writer, const std::string& name, std::span<const float> values);

}  // namespace hadal
