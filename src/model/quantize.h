#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/params.h"
#include "quant/formats.h"

namespace hadal {

// How a whole model is stored: which format each tensor has.
struct ModelFormat {
  std::string_view name;
  // Names of formats: of the matrices of routed experts and of dense MLPs; of the others that
  // products read (attention, shared experts, head). Null: every tensor has the format `name`.
  const char* experts;
  const char* others;
};
// fp32, bf16, fp16, fp8, int8, int4 (attention, shared experts and head int8), int4-uniform.
std::span<const ModelFormat> model_formats();
// How a folder with this config stores its weights.
const ModelFormat& stored_format(const ModelConfig& config);
// One of our own: weights in panels.
bool is_own(const ModelFormat& format);
// Error{kUsage} names the known ones.
const ModelFormat& find_model_format(std::string_view name);
// "int8, int4, int4-uniform": those that are our own, for config.json.
std::string own_model_formats();
// Of one tensor, whose file holds it as `stored`. What fp8, int8 or int4 do not take is BF16, but
// norms, biases and routers that are stored as FP32 stay so; routing biases are FP32 always.
const Format& format_in(const ModelFormat& model, const Param& p, DType stored);

struct QuantizeOptions {
  int64_t shard_bytes = int64_t{5'000'000'000};
  // Called after each piece with what is written and will be, in bytes; false stops.
  std::function<bool(int64_t done, int64_t total)> progress = {};
};
struct Quantized {
  int64_t bytes = 0;    // of all tensors
  int64_t numbers = 0;  // in them
  double bits_per_weight() const {
    return numbers == 0 ? 0 : 8 * static_cast<double>(bytes) / static_cast<double>(numbers);
  }
};

// Writes the model of folder `in` to the new folder `out` in another format, tensor by tensor and
// each in pieces of some MB: memory does not grow with the model. Files appear in OUT.partial,
// which is renamed when it is whole; one that an interrupted call left is removed first, and so is
// this call's when it ends early. The tokenizer's files and generation_config.json come along.
// Errors: kUsage   `out` exists and is not an empty folder; stopped by `progress`
//         others   as load_pretrained and encoding have them
Quantized quantize_model(const std::filesystem::path& in, const std::filesystem::path& out,
                         const ModelFormat& format, const QuantizeOptions& options,
                         ConfigWarnings& warnings);

}  // namespace hadal
