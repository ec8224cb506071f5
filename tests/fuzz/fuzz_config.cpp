// config.json from anywhere: an error or a model that can be described, never a crash. What is
// accepted must survive being written and read again.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "model/config.h"
#include "ops/rope.h"

namespace {

using namespace hadal;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

void check_usable(const ModelConfig& config) {
  require(std::isfinite(config.softmax_scale()) && config.softmax_scale() > 0);
  const RopeParams rope = config.rope_params();
  require(std::isfinite(rope.attention_factor) && rope.attention_factor > 0);
  for (double frequency : rope_frequencies(rope, rope.groups - 1)) {
    require(std::isfinite(frequency) && frequency >= 0);
  }
  if (config.n_routed_experts == 0) return;
  const RouterShape router = config.router_shape();
  require(router.top_k <= router.top_groups * (router.experts / router.groups));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    ConfigWarnings warnings;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Json json = parse_json(text, "config.json");
    ModelConfig config = parse_config(json, "config.json", warnings);
    apply_generation_config(json, "generation_config.json", config);
    check_usable(config);
    ConfigWarnings none;
    const std::string written = config_json(config).dump();
    ModelConfig again = parse_config(parse_json(written, "written"), "written", none);
    require(none.lines.empty());
    require(again.architecture == architecture_for(config));
    again.architecture = config.architecture;
    require(again == config);
  } catch (const Error&) {
  }
  return 0;
}
