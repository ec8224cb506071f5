#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "model/config.h"
#include "model/fact_table.h"
#include "model/params.h"

namespace hadal {

// Parameters by what they do. Biases of a Linear count with its matrix.
struct PartCounts {
  int64_t embedding = 0, attention = 0, dense = 0, routed_experts = 0, shared_experts = 0;
  int64_t router = 0, norms = 0, head = 0;
  int64_t projection = 0;  // eh_proj of MTP
  int64_t total() const {
    return embedding + attention + dense + routed_experts + shared_experts + router + norms + head +
           projection;
  }
};

int64_t& part_of(const Param& p, PartCounts& parts);
void add_parts(FactTable& table, const PartCounts& parts);
OrderedJson parts_json(const PartCounts& parts);

// What a config says of a model before there are weights. Numbers, bytes and operations are exact.
struct Inspection {
  ModelConfig config;
  PartCounts parts;            // of the model; a tied head is the embedding and counts once
  PartCounts mtp;              // of all MTP modules; embedding and head are the model's
  int64_t routing_biases = 0;  // beside the parameters: balance moves them, not gradients
  // Numbers in the matrices that one token is multiplied by: of the routed experts the chosen ones,
  // the head too, the embedding (looked up) not. MTP: one pass of every module, heads apart.
  int64_t active = 0, mtp_active = 0;

  // Bytes of KV cache a token takes in BF16, over all layers: this model; MTP modules beside it;
  // and attention of as many query heads with a key and value for each, for 8, for 1. For latent
  // attention a key is as long as the part without position.
  int64_t kv_bytes = 0, mtp_kv_bytes = 0;
  int64_t kv_bytes_mha = 0, kv_bytes_gqa8 = 0, kv_bytes_mqa = 0;

  // Operations of one generated token: a multiplication and an addition are two. Attention grows
  // with every cached token: latent attention in its absorbed form, 2 heads (2 kv_lora_rank +
  // qk_rope_head_dim) a layer (V3 report, sec. 2.1.1).
  int64_t weight_flops = 0;
  int64_t attention_flops = 0, attention_flops_per_layer = 0;  // a cached token

  // Bytes of the safetensors' numbers, MTP with its copies of embedding and head. fp8: as released,
  // Linears of the layers in blocks of 128 x 128 with FP32 scales, the rest BF16.
  int64_t bytes_f32 = 0, bytes_bf16 = 0, bytes_fp8 = 0;
  // What `hadal quantize` makes of a model that is stored as BF16, in each format of our own.
  struct OwnFormat {
    std::string_view name;
    int64_t bytes = 0;
    double bits_per_weight = 0;
  };
  std::vector<OwnFormat> own_formats;
};

// From a config alone, in milliseconds: lists the model's tensors and allocates none.
Inspection inspect_model(const ModelConfig& config);
// Operations of training on one token of a row of so many: forward and backward (three times the
// forward), MTP modules and their heads included, nothing that is computed again. A token attends
// to itself and all before it in its row.
double training_flops_per_token(const Inspection& inspection, int64_t sequence_length);
std::string inspection_text(const Inspection& inspection);
OrderedJson inspection_json(const Inspection& inspection);

}  // namespace hadal
