#pragma once
#include <cstdint>
#include <future>
#include <vector>

#include "core/tensor.h"
#include "model/params.h"

namespace hadal {

// The moving average of the weights (V3 report, 3.2.3), router biases among them, in FP32:
//   a += max(1 - decay, 10 / (9 + t)) * (w - a)        w after update t = 1, 2, ...
// so that the first weights leave no trace, and a young average remembers a tenth of its life.
//
// It is brought up to date beside the next step's forward and backward, on a thread of its own. No
// copy of the weights is taken: between two updates nothing writes them, so what that thread reads
// is the same whenever it runs. Whoever writes weights calls wait() before.
class Ema {
 public:
  // Refers to the list, whose values must be FP32.
  Ema(const Params& params, double decay);
  ~Ema() { finish(); }
  Ema(const Ema&) = delete;
  Ema& operator=(const Ema&) = delete;

  // Begins to take in the weights of update t, after what was begun before has ended.
  void follow(int64_t t);
  // Until what was begun has ended.
  void wait();
  // The average of one parameter; waits.
  Out1 of(const Param& param);
  int64_t bytes() const { return values_.bytes(); }

 private:
  void finish() noexcept;

  const Params& params_;
  double decay_;
  std::vector<int64_t> offsets_;  // of each parameter's numbers
  Buffer values_;
  std::future<void> running_;
};

}  // namespace hadal
