#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hadal {
namespace {

constexpr double kRateMemory = 0.9;  // of the smoothed tokens per second

double mean_loss(const CrossEntropy& sum) {
  return sum.count == 0 ? 0 : sum.loss_sum / static_cast<double>(sum.count);
}

double to_bits_per_byte(double nats, int64_t bytes) {
  return bytes == 0 ? 0 : nats / std::numbers::ln2 / static_cast<double>(bytes);
}

void add(const CrossEntropy& part, CrossEntropy& total) {
  total.loss_sum += part.loss_sum;
  total.count += part.count;
  total.correct += part.correct;
}

int64_t targets_in(const Batch& batch) {
  return static_cast<int64_t>(batch.targets.size()) -
         std::count(batch.targets.begin(), batch.targets.end(), kIgnored);
}

// The modules of one pass added to those of all.
void add(const std::vector<CrossEntropy>& parts, std::vector<CrossEntropy>& totals) {
  totals.resize(std::max(totals.size(), parts.size()));
  for (size_t d = 0; d < parts.size(); ++d) add(parts[d], totals[d]);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

// What the micro-batches of a step add up to.
struct Trainer::Sums {
  CrossEntropy main;
  std::vector<CrossEntropy> mtp;
  double balance = 0;
  std::vector<MoeLoad> loads;

  bool finite() const {
    bool all = std::isfinite(main.loss_sum) && std::isfinite(balance);
    for (const CrossEntropy& m : mtp) all = all && std::isfinite(m.loss_sum);
    return all;
  }
};

Trainer::Trainer(Transformer& model, const TrainRecipe& recipe, TokenSource& train,
                 TokenSource* valid)
    : model_(model),
      recipe_(recipe),
      train_(train),
      valid_(valid),
      optimizer_(model.params(), {recipe.optim.beta1, recipe.optim.beta2, recipe.optim.eps,
                                  recipe.optim.weight_decay, recipe.optim.clip}) {
  check_recipe(recipe);
  for (const TokenSource* source :
       {static_cast<const TokenSource*>(&train), static_cast<const TokenSource*>(valid)}) {
    HADAL_CHECK(source == nullptr || source->options().mtp_depth == model.mtp_depth(), kUsage,
                "the data is packed for ", source->options().mtp_depth,
                " MTP modules, the model has ", model.mtp_depth());
  }
}

TrainOptions Trainer::train_options() const {
  TrainOptions options;
  options.precision = find_precision(recipe_.run.precision);
  if (is_fp8(options.precision) && recipe_.run.fp8_gradient_tiles == "128x128") {
    options.precision = Precision::kFp8Blocks;
  }
  options.mtp_lambda = static_cast<float>(recipe_.mtp.lambda);
  options.sequence_alpha = static_cast<float>(recipe_.balance.sequence_alpha);
  options.batch_alpha = static_cast<float>(recipe_.balance.batch_alpha);
  return options;
}

// The bias speed is 0 at the end of a run (V3 report, 4.2).
double Trainer::gamma() const {
  const auto steps = static_cast<double>(recipe_.run.steps);
  const bool frozen =
      static_cast<double>(state_.step) >= steps * (1 - recipe_.balance.freeze_share);
  return frozen ? 0 : recipe_.balance.gamma;
}

// The gradient of the whole batch, a micro-batch at a time: each counts by its share of targets.
Trainer::Sums Trainer::accumulate(const TextBatch& text) {
  const int64_t sequences = text.batch.sequences;
  const int64_t micro = recipe_.batch.micro == 0 ? sequences : recipe_.batch.micro;
  const auto all = static_cast<double>(std::max<int64_t>(targets_in(text.batch), 1));
  Sums sums;
  for (int64_t begin = 0; begin < sequences; begin += micro) {
    const Batch part = slice(text.batch, begin, std::min(begin + micro, sequences));
    TrainOptions options = train_options();
    options.weight = static_cast<double>(targets_in(part)) / all;
    const Losses losses = model_.forward_backward(part, options);
    add(losses.main, sums.main);
    add(losses.mtp, sums.mtp);
    sums.balance += losses.balance;
    add_loads(losses.loads, sums.loads);
  }
  return sums;
}

Progress Trainer::step() {
  const auto begin = std::chrono::steady_clock::now();
  const TextBatch text = train_.batch(state_.row, recipe_.batch.sequences);

  model_.params().zero_gradients();
  const Sums sums = accumulate(text);
  const double norm = gradient_norm(model_.params());
  const double lr =
      learning_rate({recipe_.optim.schedule, recipe_.optim.lr, recipe_.optim.min_lr,
                     recipe_.optim.warmup_steps, recipe_.optim.decay_share, recipe_.run.steps},
                    state_.step);
  const bool applied = sums.finite() && std::isfinite(norm);
  if (applied) {
    optimizer_.step(lr, norm);
    update_biases(model_.params(), sums.loads, gamma());
  }

  loads_ = sums.loads;
  ++state_.step;
  state_.row += recipe_.batch.sequences;
  state_.tokens += sums.main.count;
  state_.not_applied += applied ? 0 : 1;

  Progress progress;
  progress.loss = mean_loss(sums.main);
  for (const CrossEntropy& m : sums.mtp) {
    progress.mtp_loss += mean_loss(m) / static_cast<double>(sums.mtp.size());
  }
  progress.bits_per_byte = to_bits_per_byte(sums.main.loss_sum, text.bytes);
  progress.lr = lr;
  progress.gradient_norm = norm;
  progress.max_vio = worst_violation(sums.loads);
  progress.applied = applied;
  measure(progress, seconds_since(begin), sums.main.count);
  return progress;
}

void Trainer::measure(Progress& progress, double seconds, int64_t tokens) {
  const double rate = static_cast<double>(tokens) / std::max(seconds, 1e-9);
  rate_ = rate_ == 0 ? rate : kRateMemory * rate_ + (1 - kRateMemory) * rate;
  progress.step = state_.step;
  progress.steps = recipe_.run.steps;
  progress.tokens = state_.tokens;
  progress.not_applied = state_.not_applied;
  progress.tokens_per_s = rate_;
  progress.eta_s =
      static_cast<double>((recipe_.run.steps - state_.step) * tokens) / std::max(rate_, 1e-9);
  progress.evaluation = evaluation_;
}

Evaluation Trainer::evaluate() {
  HADAL_CHECK(valid_ != nullptr, kUsage, "there is no held-out text to evaluate on");
  const int64_t wanted = recipe_.data.eval_sequences;
  const int64_t rows =
      wanted == 0 ? valid_->rows_per_epoch() : std::min(wanted, valid_->rows_per_epoch());
  const int64_t micro = recipe_.batch.micro == 0 ? recipe_.batch.sequences : recipe_.batch.micro;
  Evaluation result;
  Sums sums;
  int64_t accepted = 0, drafted = 0;
  for (int64_t row = 0; row < rows; row += micro) {
    const TextBatch text = valid_->batch(row, std::min(micro, rows - row));
    const Losses losses = model_.evaluate(text.batch, train_options());
    add(losses.main, sums.main);
    add(losses.mtp, sums.mtp);
    add_loads(losses.loads, sums.loads);
    accepted += losses.accepted;
    drafted += losses.drafted;
    result.bytes += text.bytes;
  }
  result.loss = mean_loss(sums.main);
  result.bits_per_byte = to_bits_per_byte(sums.main.loss_sum, result.bytes);
  result.tokens = sums.main.count;
  for (const CrossEntropy& m : sums.mtp) result.mtp_loss.push_back(mean_loss(m));
  for (const MoeLoad& load : sums.loads) result.violations.push_back(max_violation(load));
  result.max_vio = worst_violation(sums.loads);
  result.acceptance =
      drafted == 0 ? 0 : static_cast<double>(accepted) / static_cast<double>(drafted);
  evaluation_ = result;
  return result;
}

void Trainer::run(const std::function<bool(const Progress&)>& each) {
  while (!done()) {
    Progress progress = step();
    const int64_t every = recipe_.run.eval_every;
    const bool due = done() || (every > 0 && state_.step % every == 0);
    if (valid_ != nullptr && due) progress.evaluation = evaluate();
    if (!each(progress)) return;
  }
}

}  // namespace hadal
