#include "model/transformer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ops/activation.h"
#include "ops/embedding.h"

namespace hadal {
namespace {

Ids ids_of(const std::vector<int32_t>& ids) {
  return {ids.data(), {static_cast<int64_t>(ids.size())}};
}

int64_t counted(const std::vector<int32_t>& targets) {
  return static_cast<int64_t>(targets.size()) -
         std::count(targets.begin(), targets.end(), kIgnored);
}

float mean_weight(double weight, const std::vector<int32_t>& targets) {
  return static_cast<float>(weight / static_cast<double>(std::max<int64_t>(counted(targets), 1)));
}

}  // namespace

Batch make_batch(View<const int32_t, 2> tokens, int64_t sequence_length, int64_t mtp_depth) {
  const int64_t rows = tokens.dim(0), given = tokens.dim(1);
  HADAL_CHECK(sequence_length >= 1 && sequence_length <= given, kShape, "batch: sequences of ",
              sequence_length, " tokens from rows of ", given);
  Batch batch{rows, sequence_length, {}, {}, {}, {}};
  // The tokens `ahead` places on; beyond the row's end `missing`.
  const auto shifted = [&](int64_t ahead, int32_t missing) {
    std::vector<int32_t> out;
    out.reserve(static_cast<size_t>(rows * sequence_length));
    for (int64_t b = 0; b < rows; ++b) {
      for (int64_t t = 0; t < sequence_length; ++t) {
        out.push_back(t + ahead < given ? tokens.row(b)[t + ahead] : missing);
      }
    }
    return out;
  };
  batch.ids = shifted(0, 0);
  batch.targets = shifted(1, kIgnored);
  for (int64_t d = 0; d < mtp_depth; ++d) {
    batch.mtp_ids.push_back(shifted(d + 1, 0));
    batch.mtp_targets.push_back(shifted(d + 2, kIgnored));
  }
  return batch;
}

Transformer::Transformer(const ModelConfig& config)
    : config_(config), rope_(std::make_unique<RopeTable>()) {
  embed_ = params_.add("model.embed_tokens.weight", {config.vocab_size, config.hidden_size},
                       ParamGroup::kEmbedding);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    blocks_.push_back(
        std::make_unique<Block>(config_, params_, str("model.layers.", i), i, *rope_));
  }
  norm_ =
      Norm(params_, "model.norm", config.hidden_size, config.rms_norm_eps, norm_kind(config), -1);
  head_ = config.tie_word_embeddings
              ? embed_
              : params_.add("lm_head.weight", {config.vocab_size, config.hidden_size},
                            ParamGroup::kHead);
  for (int64_t d = 0; d < config.num_nextn_predict_layers; ++d) {
    mtp_.push_back(std::make_unique<Mtp>(config_, params_, d, *rope_));
  }
}

void Transformer::use_positions(int64_t positions) {
  HADAL_CHECK(positions <= config_.max_position_embeddings, kUsage, "position ", positions - 1,
              " is beyond the model's max_position_embeddings ", config_.max_position_embeddings);
  if (positions <= rope_->positions()) return;
  const auto wanted = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(positions)));
  *rope_ = RopeTable(config_.rope_params(), std::min(wanted, config_.max_position_embeddings));
}

// Attention over packed documents is attention over shorter sequences: one span each.
void Transformer::place_documents(int64_t sequences, int64_t sequence_length,
                                  const std::vector<int64_t>& documents) {
  HADAL_CHECK(std::is_sorted(documents.begin(), documents.end()), kShape,
              "the beginnings of a batch's documents do not rise");
  positions_.clear();
  spans_.clear();
  auto next = documents.begin();
  for (int64_t b = 0; b < sequences; ++b) {
    const int64_t end = (b + 1) * sequence_length;
    for (int64_t begin = b * sequence_length; begin < end; begin = spans_.back().q_end) {
      while (next != documents.end() && *next <= begin) ++next;
      const int64_t stop = next == documents.end() ? end : std::min(end, *next);
      spans_.push_back({begin, stop, begin, stop});
      for (int64_t t = begin; t < stop; ++t) positions_.push_back(static_cast<int32_t>(t - begin));
    }
  }
}

TrainPass Transformer::begin_pass(int64_t sequences, int64_t sequence_length,
                                  const TrainOptions& options,
                                  const std::vector<int64_t>& documents) {
  use_positions(sequence_length);
  saved_.reset();
  scratch_.reset();
  place_documents(sequences, sequence_length, documents);
  TrainPass pass{.saved = saved_, .scratch = scratch_};
  pass.precision = options.precision;
  pass.sequence_length = sequence_length;
  pass.measure = options.measure;
  pass.positions = ids_of(positions_);
  pass.spans = spans_;
  pass.sequence_alpha = options.sequence_alpha;
  pass.batch_alpha = options.batch_alpha;
  pass.weight = options.weight;
  if (pass.precision == Precision::kFp32) {
    pass.normed = saved_.floats(sequences * sequence_length, config_.hidden_size);
  }
  return pass;
}

// With keep == false every layer's saved numbers are given back as soon as it is done.
void Transformer::forward_layers(Ids ids, TrainPass& pass, bool keep, Run& run) {
  const int64_t rows = ids.dim(0);
  run.h = saved_.floats(rows, config_.hidden_size);
  run.normed = saved_.floats(rows, config_.hidden_size);
  embedding(ids, embed_->weight(), run.h);
  for (const auto& block : blocks_) {
    if (keep) {
      run.blocks.push_back(block->forward(run.h, pass));
    } else {
      const Arena::Scope scope(saved_);
      block->forward(run.h, pass);
    }
  }
  run.stats = norm_.forward(run.h, run.normed, saved_);
}

void Transformer::forward_mtp(int64_t d, Ids next_ids, In2 h_prev, TrainPass& pass, bool keep,
                              Run& run) {
  const int64_t rows = next_ids.dim(0);
  MtpRun module;
  module.y = saved_.floats(rows, config_.hidden_size);
  const auto forward = [&] {
    const Out2 embedded = saved_.floats(rows, config_.hidden_size);
    embedding(next_ids, embed_->weight(), embedded);
    module.saved = mtp_[static_cast<size_t>(d)]->forward(embedded, h_prev, module.y, pass);
  };
  if (keep) {
    forward();
  } else {
    const Arena::Scope scope(saved_);
    forward();
    module.saved = {};
  }
  run.mtp.push_back(std::move(module));
}

Losses Transformer::run_batch(const Batch& batch, const TrainOptions& options, bool backward) {
  TrainPass pass = begin_pass(batch.sequences, batch.sequence_length, options, batch.documents);
  const int64_t rows = batch.sequences * batch.sequence_length;
  const auto modules = options.mtp ? std::min(mtp_.size(), batch.mtp_ids.size()) : size_t{0};
  Run run;
  Losses losses;
  forward_layers(ids_of(batch.ids), pass, backward, run);
  for (size_t d = 0; d < modules; ++d) {
    forward_mtp(static_cast<int64_t>(d), ids_of(batch.mtp_ids[d]),
                d == 0 ? run.normed : run.mtp[d - 1].y, pass, backward, run);
  }

  const Out2 d_head = backward ? head_->grad() : Out2();
  const auto loss_of = [&](In2 h, const std::vector<int32_t>& targets, double weight, Out2& dh,
                           View<double, 1> each = {}) {
    if (backward) dh = saved_.zeros(rows, config_.hidden_size);
    return linear_cross_entropy(h, head_->weight(), ids_of(targets),
                                {mean_weight(weight, targets), dh, d_head},
                                above_fp8(options.precision), scratch_, each);
  };
  if (!backward) losses.by_token.resize(batch.targets.size());
  losses.main = loss_of(run.normed, batch.targets, options.weight, run.d_normed,
                        {losses.by_token.data(), {static_cast<int64_t>(losses.by_token.size())}});
  for (size_t d = 0; d < modules; ++d) {
    losses.mtp.push_back(loss_of(run.mtp[d].y, batch.mtp_targets[d],
                                 options.weight * options.mtp_lambda / static_cast<double>(modules),
                                 run.mtp[d].dy));
  }
  if (backward) {
    backward_layers(batch, pass, run);
  } else if (modules > 0) {
    count_accepted(batch, run, above_fp8(options.precision), losses);
  }
  losses.balance = pass.balance_loss;
  losses.loads = std::move(pass.loads);
  return losses;
}

void Transformer::backward_layers(const Batch& batch, TrainPass& pass, Run& run) {
  const int64_t rows = run.h.dim(0);
  const Arena::Scope scope(scratch_);
  for (size_t d = run.mtp.size(); d-- > 0;) {
    const Arena::Scope inner(scratch_);
    const Out2 d_embedded = scratch_.zeros(rows, config_.hidden_size);
    const Out2 d_h_prev = d == 0 ? run.d_normed : run.mtp[d - 1].dy;
    mtp_[d]->backward(run.mtp[d].dy, run.mtp[d].saved, pass, d_embedded, d_h_prev);
    embedding_backward(ids_of(batch.mtp_ids[d]), d_embedded, embed_->grad());
  }
  const Out2 dx = scratch_.zeros(rows, config_.hidden_size);
  norm_.backward(run.d_normed, run.h, run.stats, dx);
  for (size_t i = blocks_.size(); i-- > 0;) blocks_[i]->backward(dx, run.blocks[i], pass);
  embedding_backward(ids_of(batch.ids), dx, embed_->grad());
}

void Transformer::count_accepted(const Batch& batch, const Run& run, Precision precision,
                                 Losses& losses) {
  const int64_t rows = run.h.dim(0), length = batch.sequence_length;
  const Arena::Scope scope(scratch_);
  const View<int32_t, 1> chosen = scratch_.make<int32_t>(rows);
  const View<int32_t, 1> drafts = scratch_.make<int32_t>(rows);
  linear_argmax(run.normed, head_->weight(), chosen, precision, scratch_);
  linear_argmax(run.mtp[0].y, head_->weight(), drafts, precision, scratch_);
  for (int64_t i = 0; i < rows; ++i) {
    if (i % length == length - 1 || batch.mtp_targets[0][static_cast<size_t>(i)] == kIgnored) {
      continue;
    }
    ++losses.drafted;
    losses.accepted += drafts.data()[i] == chosen.data()[i + 1] ? 1 : 0;
  }
}

Losses Transformer::forward_backward(const Batch& batch, const TrainOptions& options) {
  return run_batch(batch, options, true);
}

Losses Transformer::evaluate(const Batch& batch, const TrainOptions& options) {
  return run_batch(batch, options, false);
}

void Transformer::logits(Ids ids, Precision precision, Out2 main, std::vector<Out2> mtp) {
  const int64_t rows = ids.dim(0);
  TrainOptions options;
  options.precision = precision;
  TrainPass pass = begin_pass(1, rows, options);
  Run run;
  forward_layers(ids, pass, false, run);
  linear(run.normed, head_->weight(), {}, main, above_fp8(precision));
  for (size_t d = 0; d < mtp.size(); ++d) {
    const int64_t left = rows - 1 - static_cast<int64_t>(d);  // rows that have a token to read
    HADAL_CHECK(mtp[d].dim(0) == left, kShape, "mtp logits have ", mtp[d].dim(0),
                " rows, expected ", left);
    spans_[0] = {0, left, 0, left};
    pass.positions = {positions_.data(), {left}};
    const Ids next(ids.data() + d + 1, {left});
    forward_mtp(static_cast<int64_t>(d), next,
                (d == 0 ? run.normed : run.mtp[d - 1].y).rows(0, left), pass, false, run);
    linear(run.mtp[d].y, head_->weight(), {}, mtp[d], above_fp8(precision));
  }
}

std::vector<CacheSpec> Transformer::cache_specs() const {
  std::vector<CacheSpec> specs;
  for (const auto& block : blocks_) specs.push_back(block->cache_spec());
  for (const auto& module : mtp_) specs.push_back(module->cache_spec());
  return specs;
}

void Transformer::step(Ids ids, StepPass& pass, Out2 h) {
  for (const StepSpan& s : pass.spans) use_positions(s.position + (s.end - s.begin));
  embedding(ids, embed_->weight(), h);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    blocks_[i]->step(h, static_cast<int64_t>(i), pass);
  }
  norm_.forward(h, h);
}

void Transformer::mtp_step(int64_t d, Ids next_ids, In2 h_prev, StepPass& pass, Out2 h) {
  HADAL_CHECK(d >= 0 && d < mtp_depth(), kInternal, "there is no MTP module ", d);
  for (const StepSpan& s : pass.spans) use_positions(s.position + (s.end - s.begin));
  const Arena::Scope scope(pass.scratch);
  const Out2 embedded = pass.scratch.floats(next_ids.dim(0), config_.hidden_size);
  embedding(next_ids, embed_->weight(), embedded);
  mtp_[static_cast<size_t>(d)]->step(embedded, h_prev, h, config_.num_hidden_layers + d, pass);
}

void Transformer::head(In2 h, const StepPass& pass, Out2 logits) const {
  WeightView weight = head_->weight();
  weight.rows = std::min(weight.rows, logits.dim(1));
  if (pass.path == Path::kPrompt) {
    return linear(h, weight, {}, logits, above_fp8(pass.precision));
  }
  linear_decode(h, weight, {}, logits);
}

}  // namespace hadal
