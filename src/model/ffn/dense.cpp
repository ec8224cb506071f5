#include <array>

#include "model/ffn/ffn.h"
#include "model/layers.h"
#include "ops/activation.h"
#include "ops/saved_rows.h"

namespace hadal {
namespace {

// down_proj(silu(gate_proj(x)) * up_proj(x))
class Swiglu final : public Ffn {
 public:
  Swiglu(const ModelConfig& config, Params& params, const std::string& prefix, int64_t layer,
         int64_t width)
      : gate_(params, prefix + ".gate_proj", config.hidden_size, width, config.mlp_bias, layer,
              ParamGroup::kMatrix, StepPart::kExperts),
        up_(params, prefix + ".up_proj", config.hidden_size, width, config.mlp_bias, layer,
            ParamGroup::kMatrix, StepPart::kExperts),
        down_(params, prefix + ".down_proj", width, config.hidden_size, config.mlp_bias, layer,
              ParamGroup::kMatrix, StepPart::kExperts) {}

  struct SwigluSaved final : Saved {
    // gate, up: inputs of the product; the product itself is recomputed (sec. 3.3.3)
    SavedRows x, gate, up;
  };

  std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const override {
    auto saved = std::make_unique<SwigluSaved>();
    const int64_t width = gate_.out();
    const Arena::Scope scope(pass.scratch);
    Arena& some = arena_for(pass.precision, pass.saved, pass.scratch);
    const Out2 gate_up = some.floats(x.dim(0), 2 * width);
    const Out2 gate = gate_up.cols(0, width), up = gate_up.cols(width, 2 * width);
    const Out2 product = pass.scratch.floats(x.dim(0), width);
    saved->x = SavedRows(x, SavedRows::As::kFp8, pass.precision, pass.saved);
    forward_all(inputs(), saved->x.operand(), gate_up, pass.precision);
    swiglu(gate, up, product);
    down_.forward(product, y, pass.precision);
    saved->gate = SavedRows(gate, SavedRows::As::kFp8, pass.precision, pass.saved);
    saved->up = SavedRows(up, SavedRows::As::kFp8, pass.precision, pass.saved);
    return saved;
  }

  void backward(In2 dy, const Saved& base, TrainPass& pass, Out2 dx) const override {
    const auto& saved = static_cast<const SwigluSaved&>(base);
    const int64_t rows = dy.dim(0), width = gate_.out();
    const Arena::Scope scope(pass.scratch);
    const Out2 product = pass.scratch.floats(rows, width);
    const Out2 d_product = pass.scratch.floats(rows, width);
    const Out2 d_gate_up = pass.scratch.floats(rows, 2 * width);
    down_.backward_to_input(dy, d_product, pass.precision, Gradient::kSet);
    swiglu_backward(d_product, saved.gate.get(pass.scratch), saved.up.get(pass.scratch), product,
                    d_gate_up.cols(0, width), d_gate_up.cols(width, 2 * width));
    down_.backward(dy, product, {}, pass.precision);
    backward_all(inputs(), d_gate_up, saved.x.operand(pass.scratch), dx, pass.precision);
  }

  void step(In2 x, Out2 y, StepPass& pass) const override {
    const Arena::Scope scope(pass.scratch);
    const Out2 gate = pass.scratch.floats(x.dim(0), gate_.out());
    const Out2 up = pass.scratch.floats(x.dim(0), up_.out());
    gate_.step(x, gate, pass);
    up_.step(x, up, pass);
    swiglu(gate, up, gate);
    down_.step(gate, y, pass);
  }

 private:
  std::array<const Linear*, 2> inputs() const { return {&gate_, &up_}; }

  Linear gate_, up_, down_;
};

// down_proj(gelu(up_proj(x))), the GPT layout.
class Gelu final : public Ffn {
 public:
  Gelu(const ModelConfig& config, Params& params, const std::string& prefix, int64_t layer,
       int64_t width)
      : up_(params, prefix + ".up_proj", config.hidden_size, width, config.mlp_bias, layer,
            ParamGroup::kMatrix, StepPart::kExperts),
        down_(params, prefix + ".down_proj", width, config.hidden_size, config.mlp_bias, layer,
              ParamGroup::kMatrix, StepPart::kExperts) {}

  struct GeluSaved final : Saved {
    SavedRows x, up;
  };

  std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const override {
    auto saved = std::make_unique<GeluSaved>();
    const Arena::Scope scope(pass.scratch);
    const Out2 up = arena_for(pass.precision, pass.saved, pass.scratch).floats(x.dim(0), up_.out());
    const Out2 activated = pass.scratch.floats(x.dim(0), up_.out());
    saved->x = SavedRows(x, SavedRows::As::kFp8, pass.precision, pass.saved);
    up_.forward(saved->x.operand(), up, pass.precision);
    gelu(up, activated);
    down_.forward(activated, y, pass.precision);
    saved->up = SavedRows(up, SavedRows::As::kFp8, pass.precision, pass.saved);
    return saved;
  }

  void backward(In2 dy, const Saved& base, TrainPass& pass, Out2 dx) const override {
    const auto& saved = static_cast<const GeluSaved&>(base);
    const Arena::Scope scope(pass.scratch);
    const Out2 activated = pass.scratch.floats(dy.dim(0), up_.out());
    const Out2 d_activated = pass.scratch.zeros(dy.dim(0), up_.out());
    const Out2 d_up = pass.scratch.zeros(dy.dim(0), up_.out());
    const In2 up = saved.up.get(pass.scratch);
    gelu(up, activated);
    down_.backward(dy, activated, d_activated, pass.precision);
    gelu_backward(d_activated, up, d_up);
    up_.backward(d_up, saved.x.operand(pass.scratch), dx, pass.precision);
  }

  void step(In2 x, Out2 y, StepPass& pass) const override {
    const Arena::Scope scope(pass.scratch);
    const Out2 up = pass.scratch.floats(x.dim(0), up_.out());
    up_.step(x, up, pass);
    gelu(up, up);
    down_.step(up, y, pass);
  }

 private:
  Linear up_, down_;
};

}  // namespace

std::unique_ptr<Ffn> make_swiglu(const ModelConfig& config, Params& params,
                                 const std::string& prefix, int64_t layer,
                                 int64_t intermediate_size) {
  return std::make_unique<Swiglu>(config, params, prefix, layer, intermediate_size);
}

std::unique_ptr<Ffn> make_gelu(const ModelConfig& config, Params& params, const std::string& prefix,
                               int64_t layer, int64_t intermediate_size) {
  return std::make_unique<Gelu>(config, params, prefix, layer, intermediate_size);
}

}  // namespace hadal
