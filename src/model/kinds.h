#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "model/attention/attention.h"
#include "model/ffn/ffn.h"

namespace hadal {

// The only registry: a new attention or FFN is one file pair and one line in kinds.cpp.
struct AttentionKind {
  std::string_view name;  // value of hadal_attention
  std::unique_ptr<Attention> (*make)(const ModelConfig&, Params&, const std::string& prefix,
                                     int64_t layer, const RopeTable&);
};
struct FfnKind {
  std::string_view name;  // value of hadal_ffn
  std::unique_ptr<Ffn> (*make)(const ModelConfig&, Params&, const std::string& prefix,
                               int64_t layer, int64_t intermediate_size);
};
std::span<const AttentionKind> attention_kinds();
std::span<const FfnKind> ffn_kinds();
// By name; Error{kConfig} lists what there is.
const AttentionKind& attention_kind(std::string_view name);
const FfnKind& ffn_kind(std::string_view name);

}  // namespace hadal
