// DeepSeekMoE (V3 report, sec. 2.1.2): router, routed experts on token lists, shared experts.
#include <algorithm>
#include <array>
#include <numeric>

#include "core/files.h"
#include "core/parallel.h"

#include "model/ffn/ffn.h"
#include "model/layers.h"
#include "ops/activation.h"
#include "ops/fp8.h"
#include "ops/router.h"
#include "ops/saved_rows.h"

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
    SavedRows x, router_x;  // for the experts, and for the router, which stays above FP8
    Out2 scores;            // [T, N_r], unbiased
    Routing routing;
    SavedRows gate, up;  // [S, width]: inputs of the experts' products
    std::unique_ptr<Ffn::Saved> shared;
  };

  std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const override {
    auto saved = std::make_unique<MoeSaved>();
    const int64_t rows = x.dim(0), slots = rows * shape_.top_k;
    const auto kept = [&](In2 what, SavedRows::As as) {
      return SavedRows(what, as, pass.precision, pass.saved);
    };
    saved->x = kept(x, SavedRows::As::kFp8);
    saved->router_x = is_fp8(pass.precision) ? kept(x, SavedRows::As::kBf16) : saved->x;
    saved->scores = pass.saved.floats(rows, shape_.experts);
    router_.forward(x, saved->scores, Precision::kFp32);
    router_scores(saved->scores, shape_, saved->scores);
    saved->routing = route(saved->scores, pass.saved);
    count_load(saved->routing, saved->scores, pass);
    add_balance_loss(*saved, pass, {});

    const Arena::Scope scope(pass.scratch);
    const Out2 expert_out = pass.scratch.floats(slots, hidden_);
    experts_forward(*saved, pass, expert_out);
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
    const Out2 dx_slots = pass.scratch.floats(slots, hidden_);
    const Out2 d_gates = pass.scratch.zeros(rows, shape_.top_k);
    experts_backward(dy, saved, pass, dx_slots, d_gates);
    moe_gather_backward(dx_slots, routing.slot_of, shape_.top_k, dx);

    const Out2 d_scores = pass.scratch.zeros(rows, shape_.experts);
    const Out2 d_logits = pass.scratch.zeros(rows, shape_.experts);
    router_select_backward(d_gates, saved.scores, routing.experts, shape_, d_scores);
    add_balance_loss(saved, pass, d_scores);
    router_scores_backward(d_scores, saved.scores, shape_, d_logits);
    router_.backward(d_logits, saved.router_x.operand(pass.scratch), dx, Precision::kFp32);
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
    for (int64_t e = 0; e < shape_.experts; ++e) {
      if (routing.offsets.data()[e + 1] == routing.offsets.data()[e]) continue;
      ++pass.experts_read;
      if (pass.path == Path::kGenerated) read_ahead_of(experts_[static_cast<size_t>(e)]);
    }
    const Out2 gate = pass.scratch.floats(slots, width_), up = pass.scratch.floats(slots, width_);
    const Out2 out = pass.scratch.floats(slots, hidden_);
    const Weights w = weights(pass.precision);
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
  // The disk begins with all that were chosen while the first are still multiplied.
  static void read_ahead_of(const Expert& expert) {
    for (const Param* p : {expert.gate, expert.up, expert.down}) {
      if (!p->paged) continue;
      const int64_t bytes = p->value_bytes() - p->scale_count() * dtype_size(DType::kF32);
      read_ahead({static_cast<const std::byte*>(p->value), static_cast<size_t>(bytes)});
    }
  }

  // Those of every expert, or of some. gate_up is gate and up as one, or empty where any two lie
  // apart.
  template <class T>
  struct PerExpert {
    std::vector<T> gate, up, down, gate_up;

    PerExpert of(int64_t first, int64_t last) const {
      const auto some = [&](const std::vector<T>& all) {
        if (all.empty()) return all;
        return std::vector<T>(all.begin() + first, all.begin() + last);
      };
      return {some(gate), some(up), some(down), some(gate_up)};
    }
  };
  using Weights = PerExpert<WeightView>;
  using Gradients = PerExpert<Out2>;

  static bool is_nothing(const WeightView& w) { return w.data == nullptr; }
  static bool is_nothing(const Out2& g) { return g.empty(); }
  template <class T, class One, class Both>
  PerExpert<T> per_expert(One one, Both both) const {
    PerExpert<T> all;
    for (const Expert& e : experts_) {
      all.gate.push_back(one(*e.gate));
      all.up.push_back(one(*e.up));
      all.down.push_back(one(*e.down));
      const T joined = both(e.inputs());
      if (!is_nothing(joined)) all.gate_up.push_back(joined);
    }
    if (all.gate_up.size() < all.gate.size()) all.gate_up.clear();
    return all;
  }
  Weights weights(Precision precision) const {
    // In FP8 gate and up lie in blocks of their own, whatever their width: as one they only say
    // what their gradients as one are those of.
    const Precision joined = is_fp8(precision) ? Precision::kFp32 : precision;
    return per_expert<WeightView>(
        [&](const Param& p) { return p.weight(precision); },
        [&](const std::array<const Param*, 2>& inputs) { return joined_weight(inputs, joined); });
  }
  Gradients gradients() const {
    return per_expert<Out2>([](const Param& p) { return p.grad(); }, joined_gradient);
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

  void count_load(const Routing& routing, In2 scores, TrainPass& pass) const {
    MoeLoad load{layer_, std::vector<int64_t>(static_cast<size_t>(shape_.experts))};
    for (int64_t e = 0; e < shape_.experts; ++e) {
      load.counts[static_cast<size_t>(e)] =
          routing.offsets.data()[e + 1] - routing.offsets.data()[e];
    }
    if (pass.measure) {
      load.entropy_sum = score_entropy(scores);
      load.measured_tokens = scores.dim(0);
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

  // Calls fn(group, memory) for groups of experts, with rows of so many columns for theirs. An
  // expert is a group, gone through by one thread, and what lies between its matrices stays in that
  // core's cache; where one has too large a share of the slots, all are one group and each
  // operation has all threads. The same bits: no operation looks beyond an expert.
  struct Group {
    int64_t first, last;  // experts
    int64_t begin, end;   // slots
    ExpertRows by_token, by_slot;
  };
  template <class Fn>
  void for_experts(const Routing& routing, int64_t columns, const TrainPass& pass, Fn fn) const {
    const TimedPart timed(StepPart::kExperts);
    const int64_t* offsets = routing.offsets.data();
    const int64_t slots = offsets[shape_.experts], threads = num_threads();
    const auto rows_of = [&](int64_t e) { return offsets[e + 1] - offsets[e]; };
    std::vector<int64_t> order(static_cast<size_t>(shape_.experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return rows_of(a) > rows_of(b); });
    const int64_t largest = rows_of(order[0]);
    if (largest * threads > slots) {
      const Group all{0, shape_.experts, 0, slots, routing.by_token(), routing.by_slot()};
      return fn(all, pass.scratch.floats(slots, columns));
    }
    const Out2 memory = pass.scratch.floats(threads * largest, columns);
    parallel_tasks(shape_.experts, [&](int64_t i) {
      const int64_t e = order[static_cast<size_t>(i)], n = rows_of(e);
      if (n == 0) return;
      const std::array<int64_t, 2> both{0, n};
      const Ids tokens(routing.tokens.data() + offsets[e], {n});
      const int64_t mine = thread_index() * largest;
      fn(Group{e, e + 1, offsets[e], offsets[e + 1], {tokens, both}, {{}, both}},
         memory.rows(mine, mine + n));
    });
  }

  void experts_forward(MoeSaved& saved, const TrainPass& pass, Out2 expert_out) const {
    const Weights w = weights(pass.precision);
    const bool fp8 = is_fp8(pass.precision);
    static thread_local Fp8Matrices rounded;
    const WeightView x =
        fp8 ? rounded.round(saved.x.operand(), kFp8Row) : saved.x.operand();  // once for all
    const int64_t slots = expert_out.dim(0);
    const bool in_place = pass.precision == Precision::kFp32;  // gate and up stay where they are
    const Out2 all_gate_up = in_place ? pass.saved.floats(slots, 2 * width_) : Out2();
    for (SavedRows* kept : {&saved.gate, &saved.up}) {
      if (in_place) break;
      *kept = SavedRows(slots, width_, SavedRows::As::kFp8, pass.precision, pass.saved);
    }
    for_experts(saved.routing, in_place ? width_ : 3 * width_, pass,
                [&](const Group& g, Out2 memory) {
                  const Out2 product = memory.cols(0, width_);
                  const Out2 gate_up =
                      in_place ? all_gate_up.rows(g.begin, g.end) : memory.cols(width_, 3 * width_);
                  const Weights mine = w.of(g.first, g.last);
                  if (fp8 || mine.gate_up.empty()) {
                    grouped_linear(x, g.by_token, mine.gate, gate(gate_up), pass.precision);
                    grouped_linear(x, g.by_token, mine.up, up(gate_up), pass.precision);
                  } else {
                    grouped_linear(x, g.by_token, mine.gate_up, gate_up, pass.precision);
                  }
                  swiglu(gate(gate_up), up(gate_up), product);
                  if (!in_place) {
                    saved.gate.keep(g.begin, gate(gate_up));
                    saved.up.keep(g.begin, up(gate_up));
                  }
                  grouped_linear(product, g.by_slot, mine.down, expert_out.rows(g.begin, g.end),
                                 pass.precision);
                });
    if (!in_place) return;
    saved.gate = SavedRows(gate(all_gate_up), SavedRows::As::kFp8, pass.precision, pass.saved);
    saved.up = SavedRows(up(all_gate_up), SavedRows::As::kFp8, pass.precision, pass.saved);
  }

  // The experts' outputs are not kept: what the gates' gradient needs of them comes from the
  // inputs of the last product (moe_swiglu_backward).
  void experts_backward(In2 dy, const MoeSaved& saved, TrainPass& pass, Out2 dx_slots,
                        Out2 d_gates) const {
    const Weights w = weights(pass.precision);
    const Gradients dw = gradients();
    const Arena::Scope scope(pass.scratch);
    const Routing& routing = saved.routing;
    const int64_t slots = routing.slot_of.dim(0);
    const Out2 slot_gates = pass.scratch.floats(slots, 1),
               d_slot_gates = pass.scratch.zeros(slots, 1);
    for (int64_t i = 0; i < slots; ++i) {
      slot_gates.data()[routing.slot_of.data()[i]] = routing.gates.data()[i];
    }
    const WeightView x = saved.x.operand(pass.scratch);
    static thread_local Fp8Matrices rounded;
    const WeightView dy_for_dx =
        pass.precision == Precision::kFp8 ? rounded.round(dy, kFp8Row) : WeightView(dy);
    const auto part = [](Out2 of_slots, const Group& g) {
      return Out1(of_slots.row(g.begin), {g.end - g.begin});
    };
    for_experts(routing, 6 * width_, pass, [&](const Group& g, Out2 memory) {
      const Out2 dx = dx_slots.rows(g.begin, g.end);
      const In2 kept_gate = saved.gate.get(g.begin, g.end, memory.cols(4 * width_, 5 * width_));
      const In2 kept_up = saved.up.get(g.begin, g.end, memory.cols(5 * width_, 6 * width_));
      const Out2 product = memory.cols(0, width_), d_product = memory.cols(width_, 2 * width_);
      const Out2 d_gate_up = memory.cols(2 * width_, 4 * width_);
      const Weights mine = w.of(g.first, g.last);
      const Gradients to = dw.of(g.first, g.last);
      grouped_linear_backward(dy_for_dx, g.by_token, {}, {}, mine.down, d_product, {},
                              pass.precision, Gradient::kSet);
      moe_swiglu_backward(d_product, part(slot_gates, g), kept_gate, kept_up, part(d_slot_gates, g),
                          product, gate(d_gate_up), up(d_gate_up));
      grouped_linear_backward(dy, g.by_token, product, g.by_slot, mine.down, {}, to.down,
                              pass.precision);
      const auto inputs = [&](Out2 d, std::span<const WeightView> weight, Out2 to_x,
                              std::span<const Out2> gradient, Gradient to_dx = Gradient::kSet) {
        grouped_linear_backward(d, g.by_slot, x, g.by_token, weight, to_x, gradient, pass.precision,
                                to_dx);
      };
      const bool joined = !mine.gate_up.empty() && !to.gate_up.empty();
      const bool fp8 = is_fp8(pass.precision);
      if (joined) inputs(d_gate_up, mine.gate_up, fp8 ? Out2() : dx, to.gate_up);
      if (joined && !fp8) return;
      inputs(gate(d_gate_up), mine.gate, dx, joined ? std::span<const Out2>() : to.gate);
      inputs(up(d_gate_up), mine.up, dx, joined ? std::span<const Out2>() : to.up, Gradient::kAdd);
    });
    for (int64_t i = 0; i < slots; ++i) {
      d_gates.data()[i] += d_slot_gates.data()[routing.slot_of.data()[i]];
    }
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
