#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace hadal {
namespace {

// From lr at share 0 to min_lr at share 1.
double cosine(const Schedule& s, double share) {
  const double wave = 0.5 * (1 + std::cos(std::numbers::pi * std::clamp(share, 0.0, 1.0)));
  return s.min_lr + (s.lr - s.min_lr) * wave;
}

// How far step is on the way from `begin` to the last step.
double share_of(int64_t step, int64_t begin, int64_t steps) {
  return static_cast<double>(step - begin) /
         static_cast<double>(std::max<int64_t>(steps - 1 - begin, 1));
}

}  // namespace

double learning_rate(const Schedule& s, int64_t step) {
  step = std::clamp<int64_t>(step, 0, std::max<int64_t>(s.steps - 1, 0));
  if (step < s.warmup_steps) {
    return s.lr * static_cast<double>(step + 1) / static_cast<double>(s.warmup_steps);
  }
  if (s.kind == "constant") return s.lr;
  if (s.kind == "cosine") return cosine(s, share_of(step, s.warmup_steps, s.steps));
  HADAL_CHECK(s.kind == "wsd", kUsage, "schedule is \"", s.kind,
              "\", expected constant, cosine or wsd");
  const auto decay_steps = int64_t{std::llround(s.decay_share * static_cast<double>(s.steps))};
  const int64_t begin = std::max(s.warmup_steps, s.steps - decay_steps);
  return step < begin ? s.lr : cosine(s, share_of(step, begin - 1, s.steps));
}

}  // namespace hadal
