#include "model/memory.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace hadal {
namespace {

constexpr int64_t kUsualContext = 8192;

// FP32 numbers for each token of a text, in one layer, while a prompt reads it.
int64_t expanded_numbers(const ModelConfig& c) {
  if (c.hadal_attention != "mla") return 4 * c.num_key_value_heads * c.head_dim;
  const int64_t latent = c.kv_lora_rank + c.qk_rope_head_dim;
  const int64_t products = c.qk_nope_head_dim + c.v_head_dim, keys = c.qk_head_dim();
  return latent + c.num_attention_heads * (products + keys + c.v_head_dim);
}

// For each row of a prompt, in the layer that takes most.
int64_t row_numbers(const ModelConfig& c) {
  const int64_t dense = 3 * c.intermediate_size;
  const int64_t experts = c.num_experts_per_tok * (3 * c.moe_intermediate_size + c.hidden_size);
  return 8 * c.hidden_size + std::max(dense, c.n_routed_experts > 0 ? experts : 0);
}

std::string number(double value, const char* format) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

double speed_allowed(const MemoryPlan& plan, double read_bytes_per_s) {
  return static_cast<double>(plan.batch) * read_bytes_per_s / plan.step_bytes;
}

bool fits(const MemoryPlan& plan, const MachineMemory& here) {
  return plan.total() <= here.available;
}

void add_needs(FactTable& table, const MemoryPlan& plan, const MachineMemory& here) {
  table.head(str("Memory for weights in ", plan.format, ", bytes"));
  add_parts(table, plan.weights);
  table.row("multi-token prediction", plan.mtp.total());
  table.row("KV cache", plan.cache,
            str(plan.batch, plan.batch == 1 ? " text of " : " texts of ", with_commas(plan.context),
                " tokens"));
  table.row("while a prompt is read", plan.working);
  table.row("total", plan.total(), short_bytes(plan.total()));
  table.row("this machine, free now", here.available,
            str(short_bytes(here.available), " of ", short_bytes(here.total), ": ",
                fits(plan, here) ? "it fits" : "it does not fit"));
}

}  // namespace

double touched_experts(const ModelConfig& c, int64_t tokens) {
  if (c.n_routed_experts == 0) return 1;
  const double chosen =
      static_cast<double>(c.num_experts_per_tok) / static_cast<double>(c.n_routed_experts);
  return 1 - std::pow(1 - chosen, static_cast<double>(tokens));
}

MemoryPlan plan_memory(const Transformer& model, std::string_view format, const ServingNeed& need) {
  const ModelConfig& config = model.config();
  const int64_t longest = config.max_position_embeddings, batch = need.batch;
  const int64_t context = need.context == 0 ? std::min(kUsualContext, longest) : need.context;
  HADAL_CHECK(context >= 1 && context <= longest, kUsage, "a context of ", context,
              " tokens, expected 1 to the model's max_position_embeddings, ", longest);
  HADAL_CHECK(batch >= 1, kUsage, batch, " texts at a time, expected 1 or more");
  MemoryPlan plan{.format = std::string(format), .context = context, .batch = batch};
  for (const Param& p : model.params().all()) {
    const int64_t bytes = p.value_bytes();
    const bool mtp = p.layer >= config.num_hidden_layers;
    if (p.group == ParamGroup::kRouterBias) {
      (mtp ? plan.mtp : plan.weights).router += bytes;
    } else {
      part_of(p, mtp ? plan.mtp : plan.weights) += bytes;
    }
    const bool looked_up = p.group == ParamGroup::kEmbedding && !config.tie_word_embeddings;
    if (mtp || looked_up) continue;
    plan.step_bytes += static_cast<double>(bytes) * (p.expert ? touched_experts(config, batch) : 1);
  }
  std::vector<CacheSpec> specs = model.cache_specs();
  const auto cache = [&] {
    return batch * context * KvCache(specs, need.cache_dtype).bytes_per_token();
  };
  plan.cache = cache();
  specs.resize(static_cast<size_t>(config.num_hidden_layers));
  plan.step_bytes += static_cast<double>(cache());
  const int64_t four = dtype_size(DType::kF32);
  plan.working = four * (context * expanded_numbers(config) + batch * config.vocab_size +
                         std::min(kPromptRows, batch * context) * row_numbers(config));
  return plan;
}

MemoryPlan plan_memory(const ModelConfig& config, const ModelFormat& format,
                       const ServingNeed& need) {
  Transformer model(config);
  for (Param& p : model.params().all()) {
    const Format& held = format_in(format, p, DType::kBF16);
    p.dtype = p.always_f32() ? DType::kF32 : held.dtype;
    p.block_bytes = p.always_f32() ? 0 : held.block_bytes;
  }
  return plan_memory(model, format.name, need);
}

void check_memory(const MemoryPlan& plan, const MachineMemory& here, const std::string& name,
                  std::string_view advice) {
  if (here.total == 0 || fits(plan, here)) return;
  FactTable table;
  add_needs(table, plan, here);
  throw Error(ErrorKind::kResource, str(name, " does not fit into memory",
                                        advice.empty() ? "" : "; ", advice, "\n", table.text()));
}

std::string memory_text(const MemoryPlan& plan, const MachineMemory& here,
                        double read_bytes_per_s) {
  FactTable table;
  add_needs(table, plan, here);
  table.head("A step of generation reads, bytes");
  table.row("weights and cache", static_cast<int64_t>(plan.step_bytes),
            short_bytes(static_cast<int64_t>(plan.step_bytes)));
  table.row("this machine, a second", static_cast<int64_t>(read_bytes_per_s),
            str("at most ", number(speed_allowed(plan, read_bytes_per_s), "%.1f"),
                " tokens/s, if it fits"));
  return table.text();
}

OrderedJson memory_json(const MemoryPlan& plan, const MachineMemory& here,
                        double read_bytes_per_s) {
  return {{"format", plan.format},
          {"context", plan.context},
          {"batch", plan.batch},
          {"weights", parts_json(plan.weights)},
          {"mtp", plan.mtp.total()},
          {"kv_cache", plan.cache},
          {"working", plan.working},
          {"total", plan.total()},
          {"available", here.available},
          {"machine", here.total},
          {"fits", fits(plan, here)},
          {"step_bytes", plan.step_bytes},
          {"read_bytes_per_s", read_bytes_per_s},
          {"tokens_per_s_at_most", speed_allowed(plan, read_bytes_per_s)}};
}

}  // namespace hadal
