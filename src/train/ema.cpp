#include "train/ema.h"

#include <algorithm>

#include "ops/optimizer.h"

namespace hadal {

Ema::Ema(const Params& params, double decay) : params_(params), decay_(decay) {
  int64_t numbers = 0;
  for (const Param& p : params.all()) {
    HADAL_CHECK(p.dtype == DType::kF32 && p.value != nullptr, kInternal, "parameter ", p.name,
                " has no FP32 value to average");
    offsets_.push_back(numbers);
    numbers += (p.size() + 15) / 16 * 16;
  }
  values_ = Buffer(numbers * int64_t{sizeof(float)});
}

void Ema::follow(int64_t t) {
  wait();
  const auto share =
      static_cast<float>(std::max(1 - decay_, 10.0 / (9.0 + static_cast<double>(t))));
  running_ = std::async(std::launch::async, [this, share] {
    auto* values = reinterpret_cast<float*>(values_.data());
    for (size_t i = 0; i < offsets_.size(); ++i) {
      const Param& p = params_.all()[i];
      average_update(share, p.vec(), {values + offsets_[i], {p.size()}});
    }
  });
}

void Ema::wait() {
  if (running_.valid()) running_.get();
}

void Ema::finish() noexcept {
  if (running_.valid()) running_.wait();
}

Out1 Ema::of(const Param& param) {
  wait();
  const auto& list = params_.all();
  for (size_t i = 0; i < list.size(); ++i) {
    if (&list[i] != &param) continue;
    return {reinterpret_cast<float*>(values_.data()) + offsets_[i], {param.size()}};
  }
  throw Error(ErrorKind::kInternal, str("parameter ", param.name, " is of another model"));
}

}  // namespace hadal
