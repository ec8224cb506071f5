#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/transformer.h"

namespace hadal {

// A tiny model of some combination of kinds and options: 48 tokens of vocabulary, width 32.
struct Variant {
  std::string name;
  std::function<void(ModelConfig&)> change;  // of the base: MLA, MoE, one MTP module

  ModelConfig config() const;
};

// The models that every conformance test runs on. coverage_test.cpp compares the list with the
// registry and with the values that config keys have.
const std::vector<Variant>& variants();

// With random weights, biases included, and memory for training. `change` is applied last.
std::unique_ptr<Transformer> make_model(const Variant& variant,
                                        const std::function<void(ModelConfig&)>& change = {});
// Every token goes to all experts: no choice that could fall otherwise in other arithmetic.
void choose_all_experts(ModelConfig& config);

std::vector<int32_t> some_ids(int64_t n, uint64_t seed);
inline Ids view(const std::vector<int32_t>& ids) {
  return {ids.data(), {int64_t(ids.size())}};
}

}  // namespace hadal
