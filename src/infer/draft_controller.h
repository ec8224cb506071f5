#pragma once
#include <cstdint>

namespace hadal {

// Decides how many tokens to draft before the next step: one while that gives more tokens a second
// than none. Both kinds of step are timed on line, the losing one tried again now and then. What it
// decides changes the speed, never the tokens.
class DraftController {
 public:
  int64_t next() const;
  void record(int64_t drafted, int64_t new_tokens, double seconds);

 private:
  struct Rate {  // exponentially forgotten sums
    double tokens = 0, seconds = 0;
    int64_t steps = 0;
    double per_second() const { return seconds > 0 ? tokens / seconds : 0; }
  };
  Rate plain_, drafted_;
  int64_t steps_ = 0;
};

}  // namespace hadal
