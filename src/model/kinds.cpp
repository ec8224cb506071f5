#include "model/kinds.h"

#include <array>

namespace hadal {
namespace {

constexpr std::array kAttentionKinds{
    AttentionKind{"mla", make_mla},
    AttentionKind{"gqa", make_gqa},
};
constexpr std::array kFfnKinds{
    FfnKind{"swiglu", make_swiglu},
    FfnKind{"gelu", make_gelu},
};

template <class Kind>
const Kind& by_name(std::span<const Kind> kinds, std::string_view key, std::string_view name) {
  std::string known;
  for (const Kind& kind : kinds) {
    if (kind.name == name) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw Error(ErrorKind::kConfig, str(key, " \"", name, "\" is unknown; expected one of ", known));
}

}  // namespace

std::span<const AttentionKind> attention_kinds() {
  return kAttentionKinds;
}

std::span<const FfnKind> ffn_kinds() {
  return kFfnKinds;
}

const AttentionKind& attention_kind(std::string_view name) {
  return by_name(attention_kinds(), "hadal_attention", name);
}

const FfnKind& ffn_kind(std::string_view name) {
  return by_name(ffn_kinds(), "hadal_ffn", name);
}

}  // namespace hadal
