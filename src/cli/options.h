#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "core/json.h"
#include "model/pretrained.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace hadal {

// What several commands share.

// --threads N. Calls set_num_threads when parsed.
void add_threads(CLI::App* command);
// --json.
void add_json(CLI::App* command, bool& json, const std::string& what = "print one JSON object");
// --dtype fp32|bf16: of the Linears' arithmetic.
void add_precision(CLI::App* command, Precision& precision);
// --dtype fp32|bf16, of prompts; not given: prompt_precision() of infer/served_model.h.
void add_prompt_precision(CLI::App* command, std::optional<Precision>& precision);
// --cache-dtype bf16|fp32|fp8, of the KV cache.
void add_cache_dtype(CLI::App* command, const std::function<void(DType)>& use,
                     const std::string& what);
// --allow-paging, of commands that load a model to serve it.
void add_allow_paging(CLI::App* command, bool& allow);
// One line on standard output.
void print_json(const OrderedJson& json);

// --ids 1,2,3 or --text T: exactly one of them.
struct TokenInput {
  std::vector<int32_t> ids;
  std::string text;
};
void add_token_input(CLI::App* command, TokenInput& input);
// The ids; --text goes through the model folder's tokenizer, special tokens around it included.
// Error{kUsage} for an id outside the vocabulary or fewer than `least` tokens.
std::vector<int32_t> token_ids(const TokenInput& input, const std::string& model,
                               const ModelConfig& config, int64_t least);

// A model folder with options.serving set: if memory is enough for it. Warnings go to the log.
Pretrained load_for_serving(const std::string& folder, const LoadOptions& options);

// A model folder loaded in FP32, with memory for gradients if asked. Warnings go to the log.
std::unique_ptr<Transformer> load_fp32_model(const std::string& folder, bool gradients);

}  // namespace hadal
