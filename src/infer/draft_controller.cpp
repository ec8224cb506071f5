#include "infer/draft_controller.h"

namespace hadal {
namespace {

constexpr double kForget = 0.95;        // weight of a step after each later one of its kind
constexpr int64_t kTryDrafts = 8;       // steps timed with drafts, then
constexpr int64_t kTryPlain = 4;        // without, before the first decision
constexpr int64_t kTryAgainEvery = 64;  // steps between looks at the losing kind

}  // namespace

int64_t DraftController::next() const {
  if (drafted_.steps < kTryDrafts) return 1;
  if (plain_.steps < kTryPlain) return 0;
  const bool pays = drafted_.per_second() > plain_.per_second();
  return (steps_ % kTryAgainEvery == 0) != pays ? 1 : 0;
}

void DraftController::record(int64_t drafted, int64_t new_tokens, double seconds) {
  Rate& rate = drafted > 0 ? drafted_ : plain_;
  rate.tokens = rate.tokens * kForget + static_cast<double>(new_tokens);
  rate.seconds = rate.seconds * kForget + seconds;
  ++rate.steps;
  ++steps_;
}

}  // namespace hadal
