#pragma once
#include <cstdint>
#include <string>

namespace hadal {

// The learning rate as a pure function of the step: nothing to save, nothing to drift on resume.
struct Schedule {
  std::string kind = "wsd";   // constant, cosine, or wsd = warm-up, stable, decay (V3 report, 4.2)
  double lr = 1e-3;           // the peak
  double min_lr = 1e-4;       // where cosine and wsd end
  int64_t warmup_steps = 0;   // linear from lr / warmup_steps up to lr
  double decay_share = 0.25;  // wsd: the last share of the steps follows a cosine down to min_lr
  int64_t steps = 0;          // of the whole run
};

// Of step 0 .. steps - 1; beyond the end it stays what it was. Error{kUsage} for an unknown kind.
double learning_rate(const Schedule& schedule, int64_t step);

}  // namespace hadal
