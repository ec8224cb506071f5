#include "cli/options.h"

#include <spdlog/spdlog.h>

#include <iostream>

#include "cli/app.h"
#include "core/parallel.h"

namespace hadal {

void add_threads(CLI::App* command) {
  command
      ->add_option_function<int64_t>(
          "--threads", [](const int64_t& n) { set_num_threads(n); },
          "threads to use; default: all CPUs. Results do not depend on it")
      ->type_name("N");
}

void add_json(CLI::App* command, bool& json, const std::string& what) {
  command->add_flag("--json", json, what);
}

void add_precision(CLI::App* command, Precision& precision) {
  command
      ->add_option_function<std::string>(
          "--dtype", [&precision](const std::string& name) { precision = find_precision(name); },
          "arithmetic of the matrix products (default fp32)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp8"}));
}

void add_prompt_precision(CLI::App* command, std::optional<Precision>& precision) {
  command
      ->add_option_function<std::string>(
          "--dtype", [&precision](const std::string& name) { precision = find_precision(name); },
          "arithmetic of prompts: fp32 or bf16 (bf16 where the CPU has dots of it and the\n"
          "weights are stored in 16 bits or fewer)")
      ->check(CLI::IsMember({"fp32", "bf16"}));
}

void add_cache_dtype(CLI::App* command, const std::function<void(DType)>& use,
                     const std::string& what) {
  command
      ->add_option_function<std::string>(
          "--cache-dtype",
          [use](const std::string& name) {
            use(name == "fp32" ? DType::kF32 : name == "fp8" ? DType::kF8E4M3 : DType::kBF16);
          },
          what)
      ->check(CLI::IsMember({"bf16", "fp32", "fp8"}));
}

void add_allow_paging(CLI::App* command, bool& allow) {
  command->add_flag("--allow-paging", allow,
                    "run a model larger than memory from its files, at the speed of the disk");
}

void print_json(const OrderedJson& json) {
  std::cout << json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) << "\n";
}

void add_token_input(CLI::App* command, TokenInput& input) {
  auto* group = command->add_option_group("input", "what the model reads");
  group->add_option("--ids", input.ids, "token ids: 1,2,3")->delimiter(',')->type_name("IDS");
  group->add_option("--text", input.text, "text for the model's tokenizer");
  group->require_option(1);
}

std::vector<int32_t> token_ids(const TokenInput& input, const std::string& model,
                               const ModelConfig& config, int64_t least) {
  std::vector<int32_t> ids = input.ids;
  if (ids.empty()) {
    ids = Tokenizer::load(model).encode(input.text, {.special = true, .add_special_tokens = true});
  }
  for (const int32_t id : ids) {
    HADAL_CHECK(id >= 0 && id < config.vocab_size, kUsage, "token id ", id,
                " is outside the model's vocabulary of ", config.vocab_size);
  }
  HADAL_CHECK(static_cast<int64_t>(ids.size()) >= least, kUsage, "there are ", ids.size(),
              " tokens, expected at least ", least);
  return ids;
}

Pretrained load_for_serving(const std::string& folder, const LoadOptions& options) {
  ConfigWarnings warnings;
  Pretrained loaded = load_pretrained(folder, options, warnings);
  for (const std::string& line : warnings.lines) spdlog::warn("{}", line);
  return loaded;
}

std::unique_ptr<Transformer> load_fp32_model(const std::string& folder, bool gradients) {
  ConfigWarnings warnings;
  LoadOptions options;
  options.values = LoadOptions::Values::kF32;
  options.training = gradients;
  Pretrained loaded = load_pretrained(folder, options, warnings);
  for (const std::string& line : warnings.lines) spdlog::warn("{}", line);
  return std::move(loaded.model);
}

}  // namespace hadal
