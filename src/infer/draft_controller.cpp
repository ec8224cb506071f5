#include "infer/draft_controller.h"

#include <algorithm>
#include <vector>

namespace hadal {
namespace {

constexpr double kForget = 0.95;         // weight of a step after each later one of its kind
constexpr int64_t kFirstPlain = 3;       // steps that are timed before the first draft
constexpr double kHope = 1.8;            // tokens a step, beside one, that a trial begins with,
constexpr double kHopeWeight = 2;        // as if so many steps had given them
constexpr double kMargin = 1.02;         // what drafts must win by
constexpr int64_t kPlainEvery = 64;      // while drafts pay
constexpr int64_t kFirstWait = 128;      // steps before losing drafts are tried again; then twice
constexpr int64_t kLongestWait = 16384;  // as long each time

}  // namespace

void DraftController::Steps::add(int64_t new_tokens, double seconds) {
  tokens = tokens * kForget + static_cast<double>(new_tokens);
  weight = weight * kForget + 1;
  newest_[static_cast<size_t>(count++) % newest_.size()] = seconds;
}

double DraftController::Steps::median_seconds() const {
  const auto known = std::min<int64_t>(count, int64_t(newest_.size()));
  std::vector<double> seconds(newest_.begin(), newest_.begin() + known);
  const auto middle = seconds.begin() + known / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

bool DraftController::pays() const {
  if (drafted_.count == 0) return true;
  const double plain_tokens = plain_.tokens / plain_.weight;
  const double tokens =
      (drafted_.tokens + kHopeWeight * kHope * plain_tokens) / (drafted_.weight + kHopeWeight);
  return tokens * plain_.median_seconds() > kMargin * plain_tokens * drafted_.median_seconds();
}

bool DraftController::hopeful() const {
  return plain_.count < kFirstPlain || pays() || losing_steps_ >= wait_;
}

int64_t DraftController::next() const {
  if (plain_.count < kFirstPlain) return 0;
  if (!pays()) return losing_steps_ >= wait_ ? 1 : 0;
  return since_plain_ >= kPlainEvery ? 0 : 1;
}

void DraftController::record(int64_t drafted, int64_t new_tokens, double seconds) {
  if (drafted == 0) {
    plain_.add(new_tokens, seconds);
    since_plain_ = 0;
    ++losing_steps_;
    return;
  }
  // A new trial knows nothing of the old one's.
  if (plain_.count >= kFirstPlain && !pays()) drafted_ = {};
  drafted_.add(new_tokens, seconds);
  ++since_plain_;
  losing_steps_ = 0;
  if (plain_.count < kFirstPlain) return;
  if (pays()) {
    if (drafted_.count >= kPlainEvery) wait_ = 0;
  } else {
    wait_ = std::clamp(2 * wait_, kFirstWait, kLongestWait);
  }
}

int64_t DraftControllers::next(int64_t texts) const {
  for (const auto& [fewer, controller] : by_texts_) {
    if (fewer < texts && !controller.hopeful()) return 0;
  }
  const auto own = by_texts_.find(texts);
  return own == by_texts_.end() ? DraftController().next() : own->second.next();
}

void DraftControllers::record(int64_t texts, int64_t drafted, int64_t new_tokens, double seconds) {
  by_texts_[texts].record(drafted, new_tokens, seconds);
}

bool DraftControllers::hopeful() const {
  const auto one = by_texts_.find(1);
  return one == by_texts_.end() || one->second.hopeful();
}

}  // namespace hadal
