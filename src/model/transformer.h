#pragma once
#include <memory>
#include <vector>

#include "model/block.h"
#include "model/mtp.h"
#include "ops/cross_entropy.h"

namespace hadal {

// B sequences of T tokens, one after another, with what they must predict. Module d of MTP reads
// mtp_ids[d] = the tokens d+1 places on and predicts mtp_targets[d], d+2 places on (V3
// report, 2.2).
struct Batch {
  int64_t sequences = 0, sequence_length = 0;
  std::vector<int32_t> ids, targets;  // [B*T]; kIgnored where there is nothing to predict
  std::vector<std::vector<int32_t>> mtp_ids, mtp_targets;
  // Rows of ids at which a document begins, rising: attention stays inside documents, and positions
  // begin anew with each. (RoPE of every kind is relative, so the mask alone would do; but so a
  // packed document is computed as it is alone.) Targets beyond a document's end are the caller's
  // to ignore. Empty: a sequence is one document.
  std::vector<int64_t> documents{};
};
// From rows of tokens [B, L]: inputs are the first T of each row, targets what follows; with L > T
// the last positions have targets too; what lies beyond L is kIgnored. 1 <= T <= L.
Batch make_batch(View<const int32_t, 2> tokens, int64_t sequence_length, int64_t mtp_depth);

struct TrainOptions {
  Precision precision = Precision::kFp32;
  float mtp_lambda = 0;      // lambda of sec. 2.2; the modules share it: lambda / D each
  float sequence_alpha = 0;  // complementary sequence-wise balance loss
  float batch_alpha = 0;     // classic auxiliary loss
  double weight = 1;     // of this micro-batch in the step's gradient (tokens / tokens of the step)
  bool mtp = true;       // run the MTP modules at all
  bool measure = false;  // MoeLoad::entropy_sum too
};
struct Losses {
  CrossEntropy main;
  std::vector<CrossEntropy> mtp;  // one a module
  double balance = 0;
  std::vector<MoeLoad> loads;
  // evaluate() with MTP: positions where the first module's arg max is the main model's arg max one
  // place on, and positions compared: what greedy speculation would accept.
  int64_t accepted = 0, drafted = 0;
  std::vector<double> by_token;  // evaluate(): the main loss of each target, 0 of kIgnored
};

// The paper's model: embedding, blocks, final norm, head, MTP modules; dense and MoE, any attention
// kind.
class Transformer {
 public:
  explicit Transformer(const ModelConfig& config);  // lists parameters, allocates none
  const ModelConfig& config() const { return config_; }
  Params& params() { return params_; }
  const Params& params() const { return params_; }
  int64_t mtp_depth() const { return int64_t(mtp_.size()); }

  // ---- training. Adds the gradient of
  //   weight * (mean CE of the batch + lambda/D * sum of the modules' mean CE + balance losses).
  Losses forward_backward(const Batch& batch, const TrainOptions& options);
  // The same losses without gradients.
  Losses evaluate(const Batch& batch, const TrainOptions& options);
  // Logits of all positions, for comparison with other engines: main [T, V]; module d [T-1-d, V],
  // row i from h_i and token i+1+d.
  void logits(Ids ids, Precision precision, Out2 main, std::vector<Out2> mtp = {});

  // ---- serving
  std::vector<CacheSpec> cache_specs() const;  // layers, then MTP modules
  // Runs rows through the layers: ids [R]; h [R, hidden] is the output of the final norm. The cache
  // is extended by the caller (StepPass).
  void step(Ids ids, StepPass& pass, Out2 h);
  // Module d: next_ids [R] are the tokens after the rows' own; h_prev the main model's (or the
  // previous module's) normed output. h [R, hidden] is the module's normed output.
  void mtp_step(int64_t d, Ids next_ids, In2 h_prev, StepPass& pass, Out2 h);
  // logits [R, N <= V] of rows of h, of the first N tokens; the model and its MTP modules share it.
  void head(In2 h, const StepPass& pass, Out2 logits) const;

  // Bytes of activations at the worst moment of the last training pass: saved and scratch.
  int64_t activation_peak_bytes() const { return saved_.peak() + scratch_.peak(); }

 private:
  // What a forward leaves for the backward.
  struct MtpRun {
    Mtp::Saved saved;
    Out2 y, dy;  // the module's normed output and its gradient
  };
  struct Run {
    Out2 h, normed, d_normed;  // before and after the final norm
    Out2 stats;
    std::vector<Block::Saved> blocks;
    std::vector<MtpRun> mtp;
  };

  void use_positions(int64_t positions);
  TrainPass begin_pass(int64_t sequences, int64_t sequence_length, const TrainOptions& options,
                       const std::vector<int64_t>& documents = {});
  void place_documents(int64_t sequences, int64_t sequence_length,
                       const std::vector<int64_t>& documents);
  void forward_layers(Ids ids, TrainPass& pass, bool keep, Run& run);
  void forward_mtp(int64_t d, Ids next_ids, In2 h_prev, TrainPass& pass, bool keep, Run& run);
  void backward_layers(const Batch& batch, TrainPass& pass, Run& run);
  void count_accepted(const Batch& batch, const Run& run, Precision precision, Losses& losses);
  Losses run_batch(const Batch& batch, const TrainOptions& options, bool backward);

  ModelConfig config_;
  Params params_;
  std::unique_ptr<RopeTable> rope_;  // grows with the positions in use; the modules refer to it
  Param* embed_ = nullptr;
  Param* head_ = nullptr;  // embed_ when tied
  std::vector<std::unique_ptr<Block>> blocks_;
  Norm norm_;
  std::vector<std::unique_ptr<Mtp>> mtp_;
  Arena saved_, scratch_;
  std::vector<int32_t> positions_;
  std::vector<AttentionSpan> spans_;
};

}  // namespace hadal
