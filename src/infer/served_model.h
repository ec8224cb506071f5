#pragma once
#include <vector>

#include "model/transformer.h"

namespace hadal {

// Of the products of prompts where nobody asks for another: BF16 if the CPU has dots of it and
// every matrix is stored in 16 bits or fewer, else FP32.
Precision prompt_precision(const Params& params);

// What the engine runs: a Transformer's serving half, or a test's stand-in. The contracts are those
// of Transformer's functions of the same names; only the first MTP module drafts.
class ServedModel {
 public:
  virtual ~ServedModel() = default;
  virtual const ModelConfig& config() const = 0;
  virtual std::vector<CacheSpec> cache_specs() const = 0;
  virtual bool drafts() const = 0;  // has an MTP module
  virtual Precision prompt_precision() const = 0;
  virtual void step(Ids ids, StepPass& pass, Out2 h) = 0;
  virtual void mtp_step(Ids next_ids, In2 h_prev, StepPass& pass, Out2 h) = 0;
  virtual void head(In2 h, const StepPass& pass, Out2 logits) = 0;
};

class ServedTransformer final : public ServedModel {
 public:
  explicit ServedTransformer(Transformer& model) : model_(model) {}
  const ModelConfig& config() const override { return model_.config(); }
  std::vector<CacheSpec> cache_specs() const override { return model_.cache_specs(); }
  bool drafts() const override { return model_.mtp_depth() > 0; }
  Precision prompt_precision() const override { return hadal::prompt_precision(model_.params()); }
  void step(Ids ids, StepPass& pass, Out2 h) override { model_.step(ids, pass, h); }
  void mtp_step(Ids next_ids, In2 h_prev, StepPass& pass, Out2 h) override {
    model_.mtp_step(0, next_ids, h_prev, pass, h);
  }
  void head(In2 h, const StepPass& pass, Out2 logits) override { model_.head(h, pass, logits); }

 private:
  Transformer& model_;
};

}  // namespace hadal
