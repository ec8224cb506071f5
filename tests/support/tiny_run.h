// A run small enough that a step takes a millisecond. For tests that link train.
#pragma once
#include <cstring>
#include <ostream>
#include <vector>

#include "tests/support/testing.h"
#include "train/trainer.h"

namespace hadal {

inline constexpr int64_t kVocab = 40;
inline constexpr int64_t kLength = 12;

// Two layers, one of them with experts in groups, one MTP module.
inline TrainRecipe tiny_recipe() {
  return parse_recipe(R"([run]
steps = 6
keep = 2
[data]
sequence_length = 12
eval_sequences = 4
[batch]
sequences = 8
micro = 2
[optim]
lr = 1e-2
warmup_steps = 2
init_std = 0.1
[balance]
gamma = 0.01
[model]
vocab_size = 40
hidden_size = 32
intermediate_size = 48
moe_intermediate_size = 16
num_hidden_layers = 2
num_attention_heads = 2
q_lora_rank = 0
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 4
v_head_dim = 8
n_routed_experts = 8
n_shared_experts = 1
num_experts_per_tok = 2
n_group = 4
topk_group = 2
first_k_dense_replace = 1
num_nextn_predict_layers = 1
)",
                      "tiny");
}

// A language with a rule: each token is followed by the one 3 on, most of the time.
inline TokenDocuments corpus(uint64_t stream) {
  TokenDocuments documents;
  Rng rng(8, stream);
  for (int d = 0; d < 40; ++d) {
    std::vector<int32_t> ids{static_cast<int32_t>(rng.below(kVocab))};
    while (ids.size() < 25) {
      const bool odd = rng.uniform() < 0.1;
      ids.push_back(static_cast<int32_t>(odd ? rng.below(kVocab) : (ids.back() + 3) % kVocab));
    }
    documents.add(ids);
  }
  return documents;
}

struct Bench {
  TrainRecipe recipe;
  Transformer model;
  TokenSource train, valid;
  Trainer trainer;

  explicit Bench(const TrainRecipe& r = tiny_recipe())
      : recipe(r),
        model(recipe_model(r, {})),
        train(corpus(1), {kLength, model.mtp_depth(), 7, true}),
        valid(corpus(2), {kLength, model.mtp_depth(), 7, false}),
        trainer(allocated(model, r), recipe, train, &valid) {}

  static Transformer& allocated(Transformer& m, const TrainRecipe& r) {
    prepare_training(m.params(), r);
    return m;
  }
  void steps(int n) {
    for (int i = 0; i < n; ++i) trainer.step();
  }
};

inline testing::AssertionResult same_weights(const Transformer& a, const Transformer& b) {
  for (size_t i = 0; i < a.params().all().size(); ++i) {
    const Param &p = a.params().all()[i], &q = b.params().all()[i];
    if (std::memcmp(p.value, q.value, static_cast<size_t>(p.size()) * sizeof(float)) != 0) {
      return testing::AssertionFailure() << p.name << " differs";
    }
  }
  return testing::AssertionSuccess();
}

// Everything that the next steps depend on.
struct Snapshot {
  std::vector<float> numbers;  // weights, router biases and moments
  Trainer::State state;
  int64_t updates = 0;
  bool operator==(const Snapshot& other) const {
    return state == other.state && updates == other.updates &&
           numbers.size() == other.numbers.size() &&
           std::memcmp(numbers.data(), other.numbers.data(), numbers.size() * sizeof(float)) == 0;
  }
};

inline Snapshot snapshot(Trainer& trainer) {
  Snapshot s{{}, trainer.state(), trainer.optimizer().updates()};
  const auto add = [&](In1 x) { s.numbers.insert(s.numbers.end(), x.data(), x.data() + x.size()); };
  const auto add_bytes = [&](std::span<const std::byte> x) {
    const size_t before = s.numbers.size();
    s.numbers.resize(before + x.size() / sizeof(float));
    std::memcpy(s.numbers.data() + before, x.data(), x.size() / sizeof(float) * sizeof(float));
  };
  for (const Param& p : trainer.model().params().all()) {
    add(p.vec());
    if (p.gradient == nullptr) continue;
    add_bytes(trainer.optimizer().first_moment(p));
    add_bytes(trainer.optimizer().second_moment(p));
  }
  return s;
}

// GoogleTest would print every byte.
inline void PrintTo(const Snapshot& s, std::ostream* out) {
  *out << s.numbers.size() << " numbers of step " << s.state.step;
}

}  // namespace hadal
