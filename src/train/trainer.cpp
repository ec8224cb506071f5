#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

// Sums of the losses by token over `parts` of the row, and the targets in each.
struct ByPosition {
  std::vector<double> sums;
  std::vector<int64_t> counts;

  explicit ByPosition(int64_t parts = 0)
      : sums(static_cast<size_t>(parts)), counts(static_cast<size_t>(parts)) {}
  void add(const Batch& batch, const std::vector<double>& losses) {
    for (size_t i = 0; i < losses.size(); ++i) {
      if (batch.targets[i] == kIgnored) continue;
      const auto length = static_cast<size_t>(batch.sequence_length);
      const size_t part = i % length * sums.size() / length;
      sums[part] += losses[i];
      ++counts[part];
    }
  }
  void add(const ByPosition& other) {
    for (size_t i = 0; i < other.sums.size(); ++i) {
      sums[i] += other.sums[i];
      counts[i] += other.counts[i];
    }
  }
  std::vector<double> means() const {
    std::vector<double> out;
    for (size_t i = 0; i < sums.size(); ++i) {
      out.push_back(counts[i] == 0 ? 0 : sums[i] / static_cast<double>(counts[i]));
    }
    return out;
  }
};

AdamWOptions adamw_options(const TrainRecipe& r) {
  const auto& o = r.optim;
  AdamWOptions options{.beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .clip = o.clip};
  options.decay = {o.weight_decay, o.embedding_decay, o.head_decay,
                   o.router_decay, o.norm_decay,      o.bias_decay};
  options.moments = o.moments == "bf16" ? DType::kBF16 : DType::kF32;
  return options;
}

// A reference, as the constructor promises.
std::vector<HeldOut> held_out_of(TokenSource* valid) {
  if (valid == nullptr) return {};
  return {{"", std::shared_ptr<TokenSource>(std::shared_ptr<void>(), valid)}};
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
  int64_t bytes = 0, accepted = 0, drafted = 0;  // of an evaluation, with by_position
  ByPosition by_position;

  void add(const Losses& losses) {
    hadal::add(losses.main, main);
    hadal::add(losses.mtp, mtp);
    balance += losses.balance;
    add_loads(losses.loads, loads);
    accepted += losses.accepted;
    drafted += losses.drafted;
  }
  void add(const Sums& other) {
    hadal::add(other.main, main);
    hadal::add(other.mtp, mtp);
    add_loads(other.loads, loads);
    by_position.add(other.by_position);
    bytes += other.bytes;
    accepted += other.accepted;
    drafted += other.drafted;
  }
  bool finite() const {
    bool all = std::isfinite(main.loss_sum) && std::isfinite(balance);
    for (const CrossEntropy& m : mtp) all = all && std::isfinite(m.loss_sum);
    return all;
  }
};

Trainer::Trainer(Transformer& model, const TrainRecipe& recipe, RowSource& train,
                 TokenSource* valid)
    : Trainer(model, recipe, train, held_out_of(valid)) {
}

Trainer::Trainer(Transformer& model, const TrainRecipe& recipe, RowSource& train,
                 std::vector<HeldOut> held_out)
    : model_(model),
      recipe_(recipe),
      schedule_(recipe),
      train_(train),
      held_out_(std::move(held_out)),
      optimizer_(model.params(), adamw_options(recipe)) {
  check_recipe(recipe);
  weights_changed();
  if (recipe.optim.ema > 0) ema_.emplace(model.params(), recipe.optim.ema);
  std::vector<const RowSource*> sources{&train};
  for (const HeldOut& text : held_out_) sources.push_back(text.source.get());
  for (const RowSource* source : sources) {
    HADAL_CHECK(source->options().mtp_depth == model.mtp_depth(), kUsage, "the data is packed for ",
                source->options().mtp_depth, " MTP modules, the model has ", model.mtp_depth());
  }
}

void Trainer::weights_changed() {
  model_.params().round_weights(find_precision(recipe_.run.precision));
}

void Trainer::set_steps(int64_t steps) {
  recipe_.run.steps = steps;
  schedule_ = RunSchedule(recipe_);
}

TrainOptions Trainer::train_options(const StepPlan& plan) const {
  TrainOptions options;
  options.precision = find_precision(recipe_.run.precision);
  if (is_fp8(options.precision) && recipe_.run.fp8_gradient_tiles == "128x128") {
    options.precision = Precision::kFp8Blocks;
  }
  options.mtp_lambda = static_cast<float>(plan.lambda);
  options.sequence_alpha = static_cast<float>(plan.sequence_alpha);
  options.batch_alpha = static_cast<float>(recipe_.balance.batch_alpha);
  return options;
}

// The gradient of the whole batch, a micro-batch at a time: each counts by its share of targets.
Trainer::Sums Trainer::accumulate(const TextBatch& text, const StepPlan& plan, bool by_layer) {
  const int64_t sequences = text.batch.sequences;
  const int64_t micro = recipe_.batch.micro == 0 ? sequences : recipe_.batch.micro;
  const auto all = static_cast<double>(std::max<int64_t>(targets_in(text.batch), 1));
  Sums sums;
  for (int64_t begin = 0; begin < sequences; begin += micro) {
    const Batch part = slice(text.batch, begin, std::min(begin + micro, sequences));
    TrainOptions options = train_options(plan);
    options.weight = static_cast<double>(targets_in(part)) / all;
    options.measure = by_layer;
    sums.add(model_.forward_backward(part, options));
  }
  return sums;
}

// NaN on the way to a router ends a pass; the step is then one that is not finite like others.
Trainer::Sums Trainer::accumulate_if_finite(const TextBatch& text, const StepPlan& plan,
                                            bool by_layer) {
  try {
    return accumulate(text, plan, by_layer);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kNumbers) throw;
    Sums sums;
    sums.main.loss_sum = std::numeric_limits<double>::quiet_NaN();
    sums.main.count = targets_in(text.batch);
    return sums;
  }
}

// Each layer is looked at closely now and then only: it takes time, and lines that many experts
// make long.
bool Trainer::layers_due() const {
  const int64_t next = state_.step + 1;
  return next == 1 || next == recipe_.run.steps || next % recipe_.run.layers_every == 0;
}

Progress Trainer::step() {
  const auto begin = std::chrono::steady_clock::now();
  const StepPlan plan = schedule_.at(state_.step);
  const TextBatch text = train_.batch(state_.row, plan.rows);

  model_.params().zero_gradients();
  const bool by_layer = layers_due();
  const Sums sums = accumulate_if_finite(text, plan, by_layer);
  std::vector<double> layer_norms;
  const double norm = gradient_norm(model_.params(), by_layer ? &layer_norms : nullptr);
  const bool applied = sums.finite() && std::isfinite(norm);
  if (applied) {
    if (ema_) ema_->wait();  // from here on the weights change
    optimizer_.step(plan.lr, norm);
    update_biases(model_.params(), sums.loads, plan.gamma);
    if (ema_) ema_->follow(optimizer_.updates());
  }

  loads_ = sums.loads;
  ++state_.step;
  state_.row += plan.rows;
  state_.tokens += sums.main.count;
  state_.not_applied += applied ? 0 : 1;
  state_.not_applied_in_a_row = applied ? 0 : state_.not_applied_in_a_row + 1;

  Progress progress;
  progress.rows = plan.rows;
  progress.row = state_.row - progress.rows;
  progress.loss = mean_loss(sums.main);
  for (const CrossEntropy& m : sums.mtp) {
    progress.mtp_loss += mean_loss(m) / static_cast<double>(sums.mtp.size());
  }
  progress.bits_per_byte = to_bits_per_byte(sums.main.loss_sum, text.bytes);
  progress.lr = plan.lr;
  progress.gradient_norm = norm;
  progress.max_vio = worst_violation(sums.loads);
  progress.gamma = plan.gamma;
  progress.sequence_alpha = plan.sequence_alpha;
  progress.mtp_lambda = plan.lambda;
  progress.applied = applied;
  if (by_layer) progress.layers = layer_metrics(layer_norms, sums.loads);
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
  progress.not_applied_in_a_row = state_.not_applied_in_a_row;
  progress.seconds = seconds;
  progress.tokens_per_s = rate_;
  if (peak_flops_per_s_ > 0) progress.share_of_peak = rate_ * flops_per_token_ / peak_flops_per_s_;
  progress.memory = memory_use();
  const int64_t left = schedule_.tokens_before(std::max(recipe_.run.steps, state_.step)) -
                       schedule_.tokens_before(state_.step);
  progress.eta_s = static_cast<double>(left) / std::max(rate_, 1e-9);
  progress.evaluation = evaluation_;
}

Trainer::Sums Trainer::evaluate_rows(TokenSource& source) {
  const int64_t wanted = recipe_.data.eval_sequences, there = source.rows_per_epoch();
  const int64_t rows = wanted == 0 ? there : std::min(wanted, there);
  const int64_t micro =
      recipe_.batch.micro == 0 ? schedule_.at(state_.step).rows : recipe_.batch.micro;
  const TrainOptions options = train_options(schedule_.at(state_.step));
  Sums sums;
  sums.by_position = ByPosition(recipe_.run.eval_buckets);
  for (int64_t row = 0; row < rows; row += micro) {
    const TextBatch text = source.batch(row, std::min(micro, rows - row));
    const Losses losses = model_.evaluate(text.batch, options);
    sums.by_position.add(text.batch, losses.by_token);
    sums.add(losses);
    sums.bytes += text.bytes;
  }
  return sums;
}

Evaluation Trainer::evaluate() {
  HADAL_CHECK(!held_out_.empty(), kUsage, "there is no held-out text to evaluate on");
  Evaluation result;
  result.step = state_.step;
  Sums sums;
  sums.by_position = ByPosition(recipe_.run.eval_buckets);
  for (const HeldOut& text : held_out_) {
    const Sums own = evaluate_rows(*text.source);
    result.sources.push_back({text.name, mean_loss(own.main),
                              to_bits_per_byte(own.main.loss_sum, own.bytes), own.main.count,
                              own.bytes});
    sums.add(own);
  }
  result.loss = mean_loss(sums.main);
  result.tokens = sums.main.count;
  result.bytes = sums.bytes;
  result.bits_per_byte = to_bits_per_byte(sums.main.loss_sum, sums.bytes);
  for (const CrossEntropy& m : sums.mtp) result.mtp_loss.push_back(mean_loss(m));
  for (const MoeLoad& load : sums.loads) result.violations.push_back(max_violation(load));
  result.max_vio = worst_violation(sums.loads);
  result.loss_by_position = sums.by_position.means();
  result.acceptance = sums.drafted == 0
                          ? 0
                          : static_cast<double>(sums.accepted) / static_cast<double>(sums.drafted);
  evaluation_ = result;
  return result;
}

void Trainer::run(const std::function<bool(const Progress&)>& each) {
  while (!done()) {
    Progress progress = step();
    const int64_t every = recipe_.run.eval_every;
    const bool due = done() || (every > 0 && state_.step % every == 0);
    if (!held_out_.empty() && due) progress.evaluation = evaluate();
    if (!each(progress)) return;
  }
}

}  // namespace hadal
