#pragma once
#include <array>
#include <cstdint>
#include <map>

namespace hadal {

// Decides how many tokens to draft before the next step of so many texts at a time: one while that
// gives more tokens a second than none. Both kinds of step are timed on line, by the median of the
// newest. Drafts are tried with the hope that most are right, and given up as soon as even that
// would not pay: often after a single step. A losing kind is tried again, drafts after ever more
// steps. What it decides changes the speed, never the tokens.
class DraftController {
 public:
  int64_t next() const;
  // A step that gave so many new tokens.
  void record(int64_t drafted, int64_t new_tokens, double seconds);
  // False when drafts are known to lose and are not to be tried again yet.
  bool hopeful() const;

 private:
  class Steps {
   public:
    void add(int64_t tokens, double seconds);
    double median_seconds() const;
    double tokens = 0, weight = 0;  // exponentially forgotten sums
    int64_t count = 0;

   private:
    std::array<double, 7> newest_{};
  };
  bool pays() const;

  Steps plain_, drafted_;
  int64_t since_plain_ = 0;
  int64_t losing_steps_ = 0, wait_ = 0;  // since drafts were last tried; before they are again
};

// One for each number of texts. The more texts, the less a draft saves: where it does not pay for
// fewer it is not tried for more.
class DraftControllers {
 public:
  int64_t next(int64_t texts) const;
  void record(int64_t texts, int64_t drafted, int64_t new_tokens, double seconds);
  // Whether a text that is being written may come to draft, so that the MTP module reads along.
  bool hopeful() const;

 private:
  std::map<int64_t, DraftController> by_texts_;
};

}  // namespace hadal
