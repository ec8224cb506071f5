// DeepSeekMoE (V3 report, sec. 2.1.2): router, routed experts on token lists, shared experts.
#include <array>
#include <cstring>

#include "model/ffn/ffn.h"
#include "model/layers.h"
#include "ops/activation.h"
#include "ops/router.h"

namespace hadal {
namespace {

// Where each token goes: filled by the router, read by the experts.
struct Routing {
  View<int32_t, 2> experts;  // [T, K_r]
  Out2 gates;                // [T, K_r]
  View<int32_t, 1> tokens;   // [S = T * K_r], sorted by expert
  View<int32_t, 1> slot_of;  // [S]
  View<int64_t, 1> offsets;  // [N_r + 1]

  ExpertRows by_token() const { return {tokens, {offsets.data(), size_t(offsets.dim(0))}}; }
  ExpertRows by_slot() const { return {{}, {offsets.data(), size_t(offsets.dim(0))}}; }
};

struct Expert {
  Param *gate, *up, *down;
  std::array<const Param*, 2> inputs() const { return {gate, up}; }
};

class Moe final : public Ffn {
 public:
  Moe(const ModelConfig& config, Params& params, const std::string& prefix, int64_t layer)
      : layer_(layer),
        hidden_(config.hidden_size),
        width_(config.moe_intermediate_size),
        shape_(config.router_shape()),
        router_(params, prefix + ".gate", config.hidden_size, config.n_routed_experts, false, layer,
                ParamGroup::kRouter, StepPart::kExperts) {
    if (config.topk_method == "noaux_tc") {
      bias_ = params.add(prefix + ".gate.e_score_correction_bias", {config.n_routed_experts},
                         ParamGroup::kRouterBias, layer);
    }
    for (int64_t e = 0; e < config.n_routed_experts; ++e) {
      const std::string name = str(prefix, ".experts.", e);
      const auto add = [&](const char* part, int64_t out, int64_t in) {
        return params.add(str(name, part), {out, in}, ParamGroup::kMatrix, layer, true);
      };
      experts_.push_back({add(".gate_proj.weight", width_, hidden_),
                          add(".up_proj.weight", width_, hidden_),
                          add(".down_proj.weight", hidden_, width_)});
    }
    if (config.n_shared_experts > 0) {
      shared_ = make_swiglu(config, params, prefix + ".shared_experts", layer,
                            width_ * config.n_shared_experts);
    }
  }

  struct MoeSaved final : Saved {
    In2 x;
    Out2 scores;  // [T, N_r], unbiased
    Routing routing;
    Out2 gate_up;  // [S, 2 width]: inputs of the experts' products
    std::unique_ptr<Ffn::Saved> shared;
  };

  std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const override {
    auto saved = std::make_unique<MoeSaved>();
    const int64_t rows = x.dim(0), slots = rows * shape_.top_k;
    saved->x = x;
    saved->scores = pass.saved.floats(rows, shape_.experts);
    router_.forward(x, saved->scores, Precision::kFp32);
    router_scores(saved->scores, shape_, saved->scores);
    saved->routing = route(saved->scores, pass.saved);
    count_load(saved->routing, pass);
    add_balance_loss(*saved, pass, {});

    saved->gate_up = pass.saved.floats(slots, 2 * width_);
    const Weights w = weights();
    if (w.gate_up.empty()) {
      grouped_linear(x, saved->routing.by_token(), w.gate, gate(saved->gate_up), pass.precision);
      grouped_linear(x, saved->routing.by_token(), w.up, up(saved->gate_up), pass.precision);
    } else {
      grouped_linear(x, saved->routing.by_token(), w.gate_up, saved->gate_up, pass.precision);
    }
    const Arena::Scope scope(pass.scratch);
    const Out2 product = pass.scratch.floats(slots, width_);
    const Out2 expert_out = pass.scratch.floats(slots, hidden_);
    swiglu(gate(saved->gate_up), up(saved->gate_up), product);
    grouped_linear(product, saved->routing.by_slot(), w.down, expert_out, pass.precision);
    if (shared_) {
      saved->shared = shared_->forward(x, y, pass);
    } else {
      fill_zero(y);
    }
    moe_combine(expert_out, saved->routing.slot_of, saved->routing.gates, y);
    return saved;
  }

  void backward(In2 dy, const Saved& base, TrainPass& pass, Out2 dx) const override {
    const auto& saved = static_cast<const MoeSaved&>(base);
    const Routing& routing = saved.routing;
    const int64_t rows = dy.dim(0), slots = rows * shape_.top_k;
    if (shared_) shared_->backward(dy, *saved.shared, pass, dx);

    const Arena::Scope scope(pass.scratch);
    const Out2 d_gates = pass.scratch.zeros(rows, shape_.top_k);
    const Out2 dx_slots = pass.scratch.zeros(slots, hidden_);
    experts_backward(dy, saved, pass, dx_slots, d_gates);
    moe_gather_backward(dx_slots, routing.slot_of, shape_.top_k, dx);

    const Out2 d_scores = pass.scratch.zeros(rows, shape_.experts);
    const Out2 d_logits = pass.scratch.zeros(rows, shape_.experts);
    router_select_backward(d_gates, saved.scores, routing.experts, shape_, d_scores);
    add_balance_loss(saved, pass, d_scores);
    router_scores_backward(d_scores, saved.scores, shape_, d_logits);
    router_.backward(d_logits, saved.x, dx, Precision::kFp32);
  }

  void step(In2 x, Out2 y, StepPass& pass) const override {
    const int64_t rows = x.dim(0), slots = rows * shape_.top_k;
    const Arena::Scope scope(pass.scratch);
    const Out2 scores = pass.scratch.floats(rows, shape_.experts);
    if (pass.path == Path::kPrompt) {
      router_.forward(x, scores, Precision::kFp32);
    } else {
      router_.step(x, scores, pass);
    }
    router_scores(scores, shape_, scores);
    const Routing routing = route(scores, pass.scratch);
    const Out2 gate = pass.scratch.floats(slots, width_), up = pass.scratch.floats(slots, width_);
    const Out2 out = pass.scratch.floats(slots, hidden_);
    const Weights w = weights();
    const auto experts = [&](In2 in, ExpertRows to, std::span<const WeightView> weight,
                             Out2 result) {
      if (pass.path == Path::kPrompt) {
        grouped_linear(in, to, weight, result, pass.precision);
      } else {
        grouped_linear_decode(in, to, weight, result);
      }
    };
    experts(x, routing.by_token(), w.gate, gate);
    experts(x, routing.by_token(), w.up, up);
    swiglu(gate, up, gate);
    experts(gate, routing.by_slot(), w.down, out);
    if (shared_) {
      shared_->step(x, y, pass);
    } else {
      fill_zero(y);
    }
    moe_combine(out, routing.slot_of, routing.gates, y);
  }

 private:
  struct Weights {
    std::vector<WeightView> gate, up, down;
    std::vector<WeightView> gate_up;  // both as one, or empty where they lie apart
  };

  Weights weights() const {
    Weights w;
    for (const Expert& e : experts_) {
      w.gate.push_back(e.gate->weight());
      w.up.push_back(e.up->weight());
      w.down.push_back(e.down->weight());
      const WeightView both = joined_weight(e.inputs());
      if (both.data != nullptr) w.gate_up.push_back(both);
    }
    if (w.gate_up.size() < w.gate.size()) w.gate_up.clear();
    return w;
  }

  std::vector<Out2> gradients(Param* Expert::*part) const {
    std::vector<Out2> out;
    for (const Expert& e : experts_) out.push_back((e.*part)->grad());
    return out;
  }

  Routing route(In2 scores, Arena& arena) const {
    const int64_t rows = scores.dim(0), slots = rows * shape_.top_k;
    Routing r;
    r.experts = arena.make<int32_t>(rows, shape_.top_k);
    r.gates = arena.floats(rows, shape_.top_k);
    r.tokens = arena.make<int32_t>(slots);
    r.slot_of = arena.make<int32_t>(slots);
    r.offsets = arena.make<int64_t>(shape_.experts + 1);
    router_select(scores, bias_ == nullptr ? In1() : bias_->vec(), shape_, r.experts, r.gates);
    sort_by_expert(r.experts, {r.offsets.data(), static_cast<size_t>(r.offsets.dim(0))}, r.tokens,
                   r.slot_of);
    return r;
  }

  void count_load(const Routing& routing, TrainPass& pass) const {
    MoeLoad load{layer_, std::vector<int64_t>(static_cast<size_t>(shape_.experts))};
    for (int64_t e = 0; e < shape_.experts; ++e) {
      load.counts[static_cast<size_t>(e)] =
          routing.offsets.data()[e + 1] - routing.offsets.data()[e];
    }
    pass.loads.push_back(std::move(load));
  }

  // Once in forward for the loss (d_scores {}), once in backward for its gradient.
  void add_balance_loss(const MoeSaved& saved, TrainPass& pass, Out2 d_scores) const {
    double loss = 0;
    if (pass.sequence_alpha != 0) {
      loss += sequence_balance_loss(saved.scores, shape_, pass.sequence_length, pass.sequence_alpha,
                                    pass.weight, d_scores);
    }
    if (pass.batch_alpha != 0) {
      loss += batch_balance_loss(saved.scores, saved.routing.experts, shape_, pass.batch_alpha,
                                 pass.weight, d_scores);
    }
    if (d_scores.empty()) pass.balance_loss += loss;
  }

  Out2 gate(Out2 gate_up) const { return gate_up.cols(0, width_); }
  Out2 up(Out2 gate_up) const { return gate_up.cols(width_, 2 * width_); }

  // The experts' outputs are not kept: what the gates' gradient needs of them comes from the
  // inputs of the last product (moe_gates_backward).
  void experts_backward(In2 dy, const MoeSaved& saved, TrainPass& pass, Out2 dx_slots,
                        Out2 d_gates) const {
    const int64_t slots = dx_slots.dim(0);
    const Routing& routing = saved.routing;
    const Weights w = weights();
    const Arena::Scope scope(pass.scratch);
    const Out2 product = pass.scratch.floats(slots, width_);
    const Out2 d_product = pass.scratch.zeros(slots, width_);
    const Out2 d_gate_up = pass.scratch.zeros(slots, 2 * width_);
    swiglu(gate(saved.gate_up), up(saved.gate_up), product);
    grouped_linear_backward(dy, routing.by_token(), {}, {}, w.down, d_product, {}, pass.precision);
    moe_gates_backward(d_product, product, routing.slot_of, routing.gates, d_gates);
    grouped_linear_backward(dy, routing.by_token(), product, routing.by_slot(), w.down, {},
                            gradients(&Expert::down), pass.precision);
    swiglu_backward(d_product, gate(saved.gate_up), up(saved.gate_up), gate(d_gate_up),
                    up(d_gate_up));
    const std::vector<Out2> joined = joined_gradients();
    if (!w.gate_up.empty() && !joined.empty()) {
      grouped_linear_backward(d_gate_up, routing.by_slot(), saved.x, routing.by_token(), w.gate_up,
                              dx_slots, joined, pass.precision);
      return;
    }
    grouped_linear_backward(gate(d_gate_up), routing.by_slot(), saved.x, routing.by_token(), w.gate,
                            dx_slots, gradients(&Expert::gate), pass.precision);
    grouped_linear_backward(up(d_gate_up), routing.by_slot(), saved.x, routing.by_token(), w.up,
                            dx_slots, gradients(&Expert::up), pass.precision);
  }

  std::vector<Out2> joined_gradients() const {
    std::vector<Out2> all;
    for (const Expert& e : experts_) {
      all.push_back(joined_gradient(e.inputs()));
      if (all.back().empty()) return {};
    }
    return all;
  }

  int64_t layer_, hidden_, width_;
  RouterShape shape_;
  Linear router_;
  Param* bias_ = nullptr;
  std::vector<Expert> experts_;
  std::unique_ptr<Ffn> shared_;
};

}  // namespace

std::unique_ptr<Ffn> make_moe(const ModelConfig& config, Params& params, const std::string& prefix,
                              int64_t layer) {
  return std::make_unique<Moe>(config, params, prefix, layer);
}

}  // namespace hadal
