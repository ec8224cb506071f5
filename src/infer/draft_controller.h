#pragma once
#include <cstdint>

#include "infer/generator.h"

namespace hadal {

// Decides how many tokens to draft before the next step. kAuto drafts one while that gives more
// tokens a second than none: both kinds of step are timed on line, the losing one tried again now
// and then. What it decides changes the speed, never the tokens.
class DraftController {
 public:
  DraftController(const Speculation& speculation, bool possible);
  int64_t next() const;
  void record(int64_t drafted, int64_t new_tokens, double seconds);

 private:
  struct Rate {  // exponentially forgotten sums
    double tokens = 0, seconds = 0;
    int64_t steps = 0;
    double per_second() const { return seconds > 0 ? tokens / seconds : 0; }
  };
  Speculation speculation_;
  bool possible_;
  Rate plain_, drafted_;
  int64_t steps_ = 0;
};

}  // namespace hadal
