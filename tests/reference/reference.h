#pragma once
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/transformer.h"

// The model of the DeepSeek-V3 report and its relatives once more: plain loops in double precision,
// one sequence at a time, one function a formula. Of src/ it uses the config, the values of the
// parameters and the types of a batch, and no arithmetic. Section and equation numbers are the
// report's (arXiv 2412.19437); names are the report's and the checkpoint's.
//
//   reference.cpp  sections 2 and 2.2: embedding, blocks, MTP modules, the losses
//   attention.cpp  section 2.1.1: MLA; multi-head, grouped-query, multi-query attention
//   rope.cpp       section 4.3 and others: rotary positions and their extensions
//   ffn.cpp        section 2.1.2: MLPs, the gate, experts, balance losses
namespace hadal::reference {

using Vector = std::vector<double>;
using Rows = std::vector<Vector>;  // one vector a token

// What the gate of one MoE layer made of one sequence.
struct Gating {
  int64_t layer = 0;
  Rows scores;                               // s_{i,t} [T][N_r], unbiased
  std::vector<std::vector<int64_t>> chosen;  // [T][K_r], best first
  Rows gates;                                // g_{i,t} of the chosen [T][K_r]
  // How far the closest decision of this layer was from going the other way, in units of a score.
  double closest = 1;
};

struct Output {
  Rows logits;                   // [T][V]
  std::vector<Rows> mtp_logits;  // one a module
  std::vector<Gating> gatings;   // one a MoE layer, MTP modules last
};

struct LossTerms {
  double main = 0;            // mean cross-entropy, nats
  Vector mtp;                 // the same of each MTP module
  double balance = 0;         // sequence-wise and batch-wise losses of all MoE layers, MTP's too
  double total = 0;           // main + lambda / D * (sum of mtp) + balance
  double closest_choice = 1;  // the smallest Gating::closest
};

class Model {
 public:
  explicit Model(const Transformer& model);  // copies config and FP32 values

  // One sequence. mtp_ids[k]: the tokens that module k reads, k + 1 places on.
  Output forward(std::span<const int32_t> ids,
                 std::span<const std::vector<int32_t>> mtp_ids = {}) const;
  // Logits of the last `count` tokens alone: attention before them is left out, which nothing else
  // reads where there is one layer. Error{kInternal} for more.
  Rows last_logits(std::span<const int32_t> ids, int64_t count);
  LossTerms losses(const Batch& batch, const TrainOptions& options) const;

  Vector& parameter(const std::string& name) { return parameters_.at(name).values; }

 private:
  struct Matrix {
    int64_t rows = 0, cols = 0;
    Vector values;
    std::span<const double> row(int64_t i) const {
      return std::span(values).subspan(size_t(i * cols), size_t(cols));
    }
  };

  const Matrix& matrix(const std::string& name) const;
  std::string head() const;
  Rows embed(std::span<const int32_t> ids) const;
  Rows linear(const Rows& x, const std::string& name, bool bias = false) const;
  Rows rms_norm(const Rows& x, const std::string& name, double eps) const;
  Rows norm(const Rows& x, const std::string& name) const;
  void block(Rows& x, int64_t layer, Output& out) const;

  Rows attention(const Rows& h, const std::string& prefix) const;
  Rows mla(const Rows& h, const std::string& prefix) const;
  Rows gqa(const Rows& h, const std::string& prefix) const;
  Rows qk_norm(const Rows& x, const std::string& name) const;

  int64_t rope_group(int64_t head) const;
  Vector frequencies(int64_t group) const;
  double softmax_scale() const;
  Vector rotate(std::span<const double> x, int64_t position, int64_t group) const;

  bool moe_layer(int64_t layer) const;
  Rows ffn(const Rows& u, int64_t layer, Output& out) const;
  Rows mlp(const Rows& u, const std::string& prefix, const std::string& kind, bool bias) const;
  Rows moe(const Rows& u, const std::string& prefix, Gating& gating) const;
  void choose(const Vector& scores, const std::string& prefix, Gating& gating) const;

  ModelConfig config_;
  std::unordered_map<std::string, Matrix> parameters_;
  std::vector<Vector> frequencies_;  // [group][pair]
  size_t first_query_ = 0;           // tokens before it attend to nothing
};

double dot(std::span<const double> a, std::span<const double> b);
void add(const Rows& x, Rows& y);  // y += x
Vector softmax(Vector x);

// Balance losses of one MoE layer without their alpha (sec. 2.1.2, eq. 17 to 20); gatings: one a
// sequence.
double sequence_wise_loss(std::span<const Gating> gatings);
double batch_wise_loss(std::span<const Gating> gatings);

}  // namespace hadal::reference
