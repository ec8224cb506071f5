#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace hadal {
namespace {

constexpr int64_t kMostRampSteps = 10'000'000;
constexpr int64_t kMostTokens = int64_t{1} << 62;

// The phase that follows `last` and begins at `begin`.
PlacedPhase place(const Phase& phase, const PlacedPhase* last, const Moment& begin,
                  const std::string& where) {
  PlacedPhase p;
  p.shape = phase.shape;
  p.to = phase.to;
  p.from = phase.shape == Phase::Shape::kConstant ? phase.to
                                                  : phase.from.value_or(last ? last->to : 0.0);
  p.tokens = phase.tokens;
  p.begin = phase.tokens ? begin.tokens : begin.step;
  if (phase.end > 0) p.end = phase.until ? phase.end : p.begin + phase.end;
  HADAL_CHECK(p.end > p.begin, kUsage, where, " ends at ", p.end,
              phase.tokens ? " tokens" : " steps", " but begins at ", p.begin);
  return p;
}

std::string nth(const std::string& key, size_t i) {
  return str(key, "[", i, "]");
}

}  // namespace

double PlacedPhase::at(const Moment& m) const {
  if (shape == Phase::Shape::kConstant) return to;
  const double share = std::clamp(
      static_cast<double>(position(m) - begin) / static_cast<double>(end - begin), 0.0, 1.0);
  if (shape == Phase::Shape::kLinear) return from + (to - from) * share;
  return to + (from - to) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

Rows::Rows(const Phases& phases, int64_t sequence_length) : sequence_length_(sequence_length) {
  PlacedPhase last;
  Moment now, edge;  // in its own unit a phase ends exactly; the batch changes between steps
  for (size_t i = 0; i < phases.size(); ++i) {
    last = place(phases[i], i == 0 ? nullptr : &last, edge, nth("batch.phases", i));
    begin_stretch(now, std::llround(last.at(now)));
    if (last.end == PlacedPhase::kNever) return;
    if (last.shape == Phase::Shape::kConstant) {
      now = last.tokens ? reached(last.end) : before(last.end);
    }
    for (const int64_t first = now.step; !last.over(now);) {
      HADAL_CHECK(now.step - first < kMostRampSteps, kUsage, nth("batch.phases", i),
                  " changes the batch for more than ", kMostRampSteps, " steps");
      begin_stretch(now, std::llround(last.at(now)));
      now = before(now.step + 1);
    }
    edge = last.tokens ? Moment{now.step, last.end} : now;
  }
  begin_stretch(now, std::llround(last.to));
}

void Rows::begin_stretch(const Moment& begin, int64_t rows) {
  rows = std::max<int64_t>(rows, 1);
  if (stretches_.empty() || stretches_.back().rows != rows) stretches_.push_back({begin, rows});
}

Moment Rows::after(const Stretch& stretch, int64_t steps) const {
  const int64_t a_step = stretch.rows * sequence_length_;
  HADAL_CHECK(steps <= (kMostTokens - stretch.begin.tokens) / a_step, kUsage, "step ",
              stretch.begin.step + steps, " of ", a_step, " tokens each lies beyond ", kMostTokens,
              " tokens");
  return {stretch.begin.step + steps, stretch.begin.tokens + steps * a_step};
}

const Rows::Stretch& Rows::stretch_of(int64_t step) const {
  const auto next = std::upper_bound(stretches_.begin(), stretches_.end(), step,
                                     [](int64_t s, const Stretch& x) { return s < x.begin.step; });
  return *(next - 1);
}

int64_t Rows::of(int64_t step) const {
  return stretch_of(step).rows;
}

Moment Rows::before(int64_t step) const {
  const Stretch& stretch = stretch_of(step);
  return after(stretch, step - stretch.begin.step);
}

Moment Rows::reached(int64_t tokens) const {
  const auto next =
      std::lower_bound(stretches_.begin(), stretches_.end(), tokens,
                       [](const Stretch& x, int64_t t) { return x.begin.tokens < t; });
  if (next == stretches_.begin()) return {};
  const Stretch& stretch = *(next - 1);
  const int64_t a_step = stretch.rows * sequence_length_;
  return after(stretch, (tokens - stretch.begin.tokens + a_step - 1) / a_step);
}

Curve::Curve(const Phases& phases, const Rows& rows, const std::string& key) {
  Moment now;
  for (size_t i = 0; i < phases.size(); ++i) {
    const PlacedPhase* last = phases_.empty() ? nullptr : &phases_.back();
    phases_.push_back(place(phases[i], last, now, nth(key, i)));
    const int64_t end = phases_.back().end;
    if (end == PlacedPhase::kNever) break;
    // In its own unit a phase ends exactly; in the other, with the step in which it does.
    now = phases[i].tokens ? Moment{rows.reached(end).step, end} : rows.before(end);
  }
  HADAL_CHECK(!phases_.empty(), kInternal, key, " has no phases");
}

double Curve::at(const Moment& begin, const Moment& end) const {
  for (const PlacedPhase& phase : phases_) {
    if (!phase.over(begin)) return phase.at(end);
  }
  return phases_.back().to;
}

}  // namespace hadal
