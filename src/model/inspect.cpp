#include "model/inspect.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "model/quantize.h"
#include "model/transformer.h"
#include "quant/fp8.h"

namespace hadal {

int64_t& part_of(const Param& p, PartCounts& parts) {
  switch (p.group) {
    case ParamGroup::kEmbedding:
      return parts.embedding;
    case ParamGroup::kHead:
      return parts.head;
    case ParamGroup::kRouter:
      return parts.router;
    case ParamGroup::kNorm:
      return parts.norms;
    default:
      break;
  }
  if (p.expert) return parts.routed_experts;
  const auto has = [&](const char* text) { return p.name.find(text) != std::string::npos; };
  if (has(".self_attn.")) return parts.attention;
  if (has(".shared_experts.")) return parts.shared_experts;
  return has(".eh_proj.") ? parts.projection : parts.dense;
}

namespace {

bool is_matrix(const Param& p) {
  return p.shape.size() == 2 && p.group != ParamGroup::kEmbedding;
}

// Bytes in the released FP8 layout: eh_proj, and all that is not a Linear of a layer, stay BF16.
int64_t fp8_bytes(const Param& p) {
  const bool quantised = p.group == ParamGroup::kMatrix && p.shape.size() == 2 &&
                         p.name.find(".eh_proj.") == std::string::npos;
  if (!quantised) return p.size() * dtype_size(DType::kBF16);
  const int64_t scales = blocks(p.rows(), kFp8Block.rows) * blocks(p.cols(), kFp8Block.cols);
  return p.size() + scales * dtype_size(DType::kF32);
}

void count_parameters(const Params& params, Inspection& out) {
  const ModelConfig& c = out.config;
  int64_t expert_numbers = 0, mtp_expert_numbers = 0;  // of all experts: a share of them is active
  for (const Param& p : params.all()) {
    const bool mtp = p.layer >= c.num_hidden_layers;
    if (p.group == ParamGroup::kRouterBias) {
      out.routing_biases += p.size();
      for (int64_t* bytes : {&out.bytes_f32, &out.bytes_bf16, &out.bytes_fp8}) {
        *bytes += p.size() * dtype_size(DType::kF32);
      }
      continue;
    }
    part_of(p, mtp ? out.mtp : out.parts) += p.size();
    out.bytes_f32 += p.size() * dtype_size(DType::kF32);
    out.bytes_bf16 += p.size() * dtype_size(DType::kBF16);
    out.bytes_fp8 += fp8_bytes(p);
    if (!is_matrix(p)) continue;
    if (p.expert) {
      (mtp ? mtp_expert_numbers : expert_numbers) += p.size();
    } else {
      (mtp ? out.mtp_active : out.active) += p.size();
    }
  }
  if (c.tie_word_embeddings) out.active += out.parts.embedding;
  if (c.n_routed_experts > 0) {
    out.active += expert_numbers / c.n_routed_experts * c.num_experts_per_tok;
    out.mtp_active += mtp_expert_numbers / c.n_routed_experts * c.num_experts_per_tok;
  }
  // Each module's copies of the embedding and the head.
  const int64_t copied = 2 * c.num_nextn_predict_layers * out.parts.embedding;
  out.bytes_f32 += copied * dtype_size(DType::kF32);
  out.bytes_bf16 += copied * dtype_size(DType::kBF16);
  out.bytes_fp8 += copied * dtype_size(DType::kBF16);
}

void count_own_formats(const Params& params, Inspection& out) {
  for (const ModelFormat& format : model_formats()) {
    if (!is_own(format)) continue;
    int64_t bytes = 0, numbers = 0;
    for (const Param& p : params.all()) {
      bytes += code_bytes(format_in(format, p, DType::kBF16), p.rows(), p.cols());
      numbers += p.size();
    }
    out.own_formats.push_back(
        {format.name, bytes, 8 * static_cast<double>(bytes) / static_cast<double>(numbers)});
  }
}

void count_cache(const std::vector<CacheSpec>& specs, Inspection& out) {
  const ModelConfig& c = out.config;
  const int64_t number = dtype_size(DType::kBF16);
  for (size_t i = 0; i < specs.size(); ++i) {
    const bool mtp = static_cast<int64_t>(i) >= c.num_hidden_layers;
    (mtp ? out.mtp_kv_bytes : out.kv_bytes) += specs[i].elements * number;
  }
  const bool latent = c.hadal_attention == "mla";
  const int64_t pair = latent ? c.qk_nope_head_dim + c.v_head_dim : 2 * c.head_dim;
  const auto bytes = [&](int64_t kv_heads) {
    return std::min(kv_heads, c.num_attention_heads) * pair * c.num_hidden_layers * number;
  };
  out.kv_bytes_mha = bytes(c.num_attention_heads);
  out.kv_bytes_gqa8 = bytes(8);
  out.kv_bytes_mqa = bytes(1);
}

void count_flops(Inspection& out) {
  const ModelConfig& c = out.config;
  const bool latent = c.hadal_attention == "mla";
  const int64_t products = latent ? 2 * c.kv_lora_rank + c.qk_rope_head_dim : 2 * c.head_dim;
  out.weight_flops = 2 * out.active;
  out.attention_flops_per_layer = 2 * c.num_attention_heads * products;
  out.attention_flops = out.attention_flops_per_layer * c.num_hidden_layers;
}

// ---- text

std::string times(int64_t a, int64_t b) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1fx", static_cast<double>(a) / static_cast<double>(b));
  return text.data();
}

}  // namespace

void add_parts(FactTable& table, const PartCounts& parts) {
  table.row("embedding", parts.embedding);
  table.row("attention", parts.attention);
  table.row("dense MLPs", parts.dense);
  table.row("routed experts", parts.routed_experts);
  table.row("shared experts", parts.shared_experts);
  table.row("routers", parts.router);
  table.row("norms", parts.norms);
  table.row("projections", parts.projection);
  table.row("output head", parts.head);
}

OrderedJson parts_json(const PartCounts& parts) {
  return {{"total", parts.total()},
          {"embedding", parts.embedding},
          {"attention", parts.attention},
          {"dense", parts.dense},
          {"routed_experts", parts.routed_experts},
          {"shared_experts", parts.shared_experts},
          {"router", parts.router},
          {"norms", parts.norms},
          {"projection", parts.projection},
          {"head", parts.head}};
}

Inspection inspect_model(const ModelConfig& config) {
  check_config(config, "config");
  const Transformer model(config);
  Inspection out;
  out.config = config;
  count_parameters(model.params(), out);
  count_own_formats(model.params(), out);
  count_cache(model.cache_specs(), out);
  count_flops(out);
  return out;
}

double training_flops_per_token(const Inspection& x, int64_t sequence_length) {
  constexpr double kForwardAndBackward = 3;
  const ModelConfig& c = x.config;
  const int64_t modules = c.num_nextn_predict_layers;
  const int64_t matrices = x.active + x.mtp_active + modules * c.vocab_size * c.hidden_size;
  const int64_t v_head_dim = c.hadal_attention == "mla" ? c.v_head_dim : c.head_dim;
  const int64_t products =
      (c.num_hidden_layers + modules) * c.num_attention_heads * (c.qk_head_dim() + v_head_dim);
  const double attended = static_cast<double>(sequence_length + 1) / 2;
  return kForwardAndBackward * 2 *
         (static_cast<double>(matrices) + static_cast<double>(products) * attended);
}

std::string inspection_text(const Inspection& x) {
  const ModelConfig& c = x.config;
  FactTable table;
  table.head(str(c.architecture, ": ", short_count(x.parts.total()), " parameters, ",
                 short_count(x.active), " active per token"));
  table.head("Parameters");
  add_parts(table, x.parts);
  table.row("total", x.parts.total(), short_count(x.parts.total()));
  table.row("multiplied per token", x.active, short_count(x.active));
  table.row("routing biases, apart", x.routing_biases);
  if (x.mtp.total() > 0) {
    table.head(str("Multi-token prediction, ", c.num_nextn_predict_layers,
                   c.num_nextn_predict_layers == 1 ? " module" : " modules",
                   " (embedding and head are the model's)"));
    add_parts(table, x.mtp);
    table.row("total", x.mtp.total(), short_count(x.mtp.total()));
    table.row("multiplied per token", x.mtp_active, short_count(x.mtp_active));
  }
  table.head("KV cache, bytes per token in BF16");
  table.row("this model", x.kv_bytes);
  table.row("MTP beside it", x.mtp_kv_bytes);
  table.row("MHA of the same heads", x.kv_bytes_mha, times(x.kv_bytes_mha, x.kv_bytes));
  table.row("GQA, 8 key-value heads", x.kv_bytes_gqa8, times(x.kv_bytes_gqa8, x.kv_bytes));
  table.row("MQA", x.kv_bytes_mqa, times(x.kv_bytes_mqa, x.kv_bytes));
  table.row("at full context", x.kv_bytes * c.max_position_embeddings,
            str(short_bytes(x.kv_bytes * c.max_position_embeddings), " for ",
                with_commas(c.max_position_embeddings), " tokens"));
  table.head("Operations per generated token");
  table.row("weights", x.weight_flops, short_count(x.weight_flops));
  table.row("attention, a cached token", x.attention_flops,
            str(with_commas(x.attention_flops_per_layer), " a layer"));
  table.head("Bytes on disk");
  table.row("F32", x.bytes_f32, short_bytes(x.bytes_f32));
  table.row("BF16", x.bytes_bf16, short_bytes(x.bytes_bf16));
  table.row("FP8, blocks of 128 x 128", x.bytes_fp8, short_bytes(x.bytes_fp8));
  for (const Inspection::OwnFormat& f : x.own_formats) {
    std::array<char, 64> bits{};
    std::snprintf(bits.data(), bits.size(), ", %.2f bits per weight", f.bits_per_weight);
    table.row(std::string(f.name), f.bytes, short_bytes(f.bytes) + bits.data());
  }
  if (!c.hadal_format.empty()) table.head("These weights are " + c.hadal_format);
  return table.text();
}

OrderedJson inspection_json(const Inspection& x) {
  OrderedJson json;
  json["architecture"] = x.config.architecture;
  json["parameters"] = parts_json(x.parts);
  json["active_parameters"] = x.active;
  json["routing_biases"] = x.routing_biases;
  json["mtp"] = {{"modules", x.config.num_nextn_predict_layers},
                 {"parameters", parts_json(x.mtp)},
                 {"active_parameters", x.mtp_active}};
  json["kv_bytes_per_token"] = {{"model", x.kv_bytes},
                                {"mtp", x.mtp_kv_bytes},
                                {"mha", x.kv_bytes_mha},
                                {"gqa8", x.kv_bytes_gqa8},
                                {"mqa", x.kv_bytes_mqa}};
  json["flops_per_token"] = {{"weights", x.weight_flops},
                             {"attention_per_cached_token", x.attention_flops},
                             {"attention_per_cached_token_and_layer", x.attention_flops_per_layer}};
  json["storage_bytes"] = {{"F32", x.bytes_f32}, {"BF16", x.bytes_bf16}, {"F8_E4M3", x.bytes_fp8}};
  for (const Inspection::OwnFormat& f : x.own_formats) {
    json["storage_bytes"][std::string(f.name)] = f.bytes;
    json["bits_per_weight"][std::string(f.name)] = f.bits_per_weight;
  }
  json["format"] = x.config.hadal_format.empty() ? Json() : Json(x.config.hadal_format);
  json["config"] = config_json(x.config);
  return json;
}

}  // namespace hadal
