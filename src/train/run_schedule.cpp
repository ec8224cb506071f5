#include "train/run_schedule.h"

#include <algorithm>
#include <cmath>

namespace hadal {
namespace {

using Shape = Phase::Shape;

Phases constant(double value) {
  return {{.shape = Shape::kConstant, .to = value}};
}

void until(Phases& phases, Shape shape, double to, int64_t step) {
  const int64_t before = phases.empty() ? 0 : phases.back().end;
  if (step > before) phases.push_back({.shape = shape, .to = to, .end = step, .until = true});
}

}  // namespace

Phases lr_phases(const TrainRecipe& r) {
  if (!r.optim.lr_phases.empty()) return r.optim.lr_phases;
  const auto& o = r.optim;
  const int64_t steps = r.run.steps;
  Phases phases;
  until(phases, Shape::kLinear, o.lr, o.warmup_steps);
  if (o.schedule == "constant") {
    phases.push_back({.shape = Shape::kConstant, .to = o.lr});
    return phases;
  }
  const auto decay_steps = int64_t{std::llround(o.decay_share * static_cast<double>(steps))};
  const int64_t stable = o.schedule == "wsd" ? steps - decay_steps : o.warmup_steps + 1;
  until(phases, Shape::kConstant, o.lr, stable);
  until(phases, Shape::kCosine, o.min_lr, steps);
  if (phases.back().shape == Shape::kCosine) phases.back().from = o.lr;
  return phases;
}

Phases gamma_phases(const TrainRecipe& r) {
  if (!r.balance.gamma_phases.empty()) return r.balance.gamma_phases;
  const auto steps = static_cast<double>(r.run.steps);
  const auto frozen = static_cast<int64_t>(std::ceil(steps * (1 - r.balance.freeze_share)));
  if (r.balance.freeze_share == 0) return constant(r.balance.gamma);
  Phases phases;
  until(phases, Shape::kConstant, r.balance.gamma, frozen);
  phases.push_back({.shape = Shape::kConstant, .to = 0});
  return phases;
}

RunSchedule::RunSchedule(const TrainRecipe& r)
    : rows_(r.batch.phases.empty() ? Rows(r.batch.sequences, r.data.sequence_length)
                                   : Rows(r.batch.phases, r.data.sequence_length)),
      lr_(lr_phases(r), rows_, "optim.lr_phases"),
      gamma_(gamma_phases(r), rows_, "balance.gamma_phases"),
      sequence_alpha_(r.balance.sequence_alpha_phases.empty() ? constant(r.balance.sequence_alpha)
                                                              : r.balance.sequence_alpha_phases,
                      rows_, "balance.sequence_alpha_phases"),
      lambda_(r.mtp.lambda_phases.empty() ? constant(r.mtp.lambda) : r.mtp.lambda_phases, rows_,
              "mtp.lambda_phases") {
}

StepPlan RunSchedule::at(int64_t step) const {
  const Moment begin = rows_.before(step), end = rows_.before(step + 1);
  return {rows_.of(step), lr_.at(begin, end), gamma_.at(begin, end), sequence_alpha_.at(begin, end),
          lambda_.at(begin, end)};
}

}  // namespace hadal
