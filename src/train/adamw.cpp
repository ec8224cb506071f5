#include "train/adamw.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "core/step_clock.h"

namespace hadal {
namespace {

// Numbers a task takes: fixed, so that sums are cut in the same places whatever the threads do.
constexpr int64_t kBlock = int64_t{1} << 15;
constexpr int64_t kLanes = 8;

// Lane sums, then the lanes in order: vectorises, and is one fixed order.
double sum_of_squares(const float* g, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const double x = g[i + j];
      lanes[j] += x * x;
    }
  }
  for (; i < n; ++i) lanes[0] += double(g[i]) * double(g[i]);
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

struct Update {
  float scale;      // of the gradient: clipping
  float b1, b2;     // 1 - beta
  float step_size;  // lr / (1 - beta1^t)
  float inv_root;   // 1 / sqrt(1 - beta2^t)
  float eps;
  float decay;  // lr * weight decay
};

inline void update_one(const Update& u, const float* g, float* w, float* m, float* v, int64_t i) {
  const float gradient = g[i] * u.scale;
  const float first = m[i] + u.b1 * (gradient - m[i]);
  const float second = v[i] + u.b2 * (gradient * gradient - v[i]);
  m[i] = first;
  v[i] = second;
  const float denominator = std::sqrt(second) * u.inv_root + u.eps;
  w[i] = w[i] - (u.step_size * first / denominator + u.decay * w[i]);
}

void update(const Update& u, const float* __restrict g, float* __restrict w, float* __restrict m,
            float* __restrict v, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) update_one(u, g, w, m, v, i + j);
  }
  for (; i < n; ++i) update_one(u, g, w, m, v, i);
}

// Numbers [begin, end) of one parameter.
struct Piece {
  size_t index;
  int64_t begin, end;
};

template <class List, class SizeOf>
std::vector<Piece> pieces_of(const List& list, SizeOf size_of) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < list.size(); ++i) {
    const int64_t size = size_of(list[i]);
    for (int64_t b = 0; b < size; b += kBlock) {
      pieces.push_back({i, b, std::min(size, b + kBlock)});
    }
  }
  return pieces;
}

}  // namespace

bool decays(ParamGroup group) {
  return group == ParamGroup::kMatrix;
}

double gradient_norm(const Params& params) {
  const TimedPart timed(StepPart::kOptimizer);
  const auto& list = params.all();
  const auto pieces =
      pieces_of(list, [](const Param& p) { return p.gradient == nullptr ? 0 : p.size(); });
  std::vector<double> sums(pieces.size());
  parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    sums[static_cast<size_t>(i)] =
        sum_of_squares(list[piece.index].gradient + piece.begin, piece.end - piece.begin);
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

AdamW::AdamW(Params& params, const AdamWOptions& options) : options_(options) {
  int64_t numbers = 0;
  for (Param& p : params.all()) {
    if (p.gradient == nullptr) continue;
    HADAL_CHECK(p.dtype == DType::kF32 && p.value != nullptr, kInternal, "parameter ", p.name,
                " has a gradient but no FP32 value to update");
    slots_.push_back({&p, numbers});
    numbers += (p.size() + 15) / 16 * 16;
  }
  first_ = Buffer(numbers * int64_t{sizeof(float)});
  second_ = Buffer(numbers * int64_t{sizeof(float)});
}

void AdamW::step(double lr, double norm) {
  const TimedPart timed(StepPart::kOptimizer);
  ++updates_;
  const auto t = static_cast<double>(updates_);
  const bool clips = options_.clip > 0 && norm > options_.clip;
  Update u{};
  u.scale = static_cast<float>(clips ? options_.clip / norm : 1.0);
  u.b1 = static_cast<float>(1 - options_.beta1);
  u.b2 = static_cast<float>(1 - options_.beta2);
  u.step_size = static_cast<float>(lr / (1 - std::pow(options_.beta1, t)));
  u.inv_root = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t)));
  u.eps = static_cast<float>(options_.eps);
  const auto decay = static_cast<float>(lr * options_.weight_decay);

  const auto pieces = pieces_of(slots_, [](const Slot& s) { return s.param->size(); });
  auto* first = reinterpret_cast<float*>(first_.data());
  auto* second = reinterpret_cast<float*>(second_.data());
  parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const Slot& slot = slots_[piece.index];
    const Param& p = *slot.param;
    Update mine = u;
    mine.decay = decays(p.group) ? decay : 0.0f;
    const int64_t at = slot.offset + piece.begin;
    update(mine, p.gradient + piece.begin, static_cast<float*>(p.value) + piece.begin, first + at,
           second + at, piece.end - piece.begin);
  });
}

Out1 AdamW::moment(const Buffer& buffer, const Param& param) const {
  for (const Slot& slot : slots_) {
    if (slot.param != &param) continue;
    return {reinterpret_cast<float*>(buffer.data()) + slot.offset, {param.size()}};
  }
  return {};
}

Out1 AdamW::first_moment(const Param& param) {
  return moment(first_, param);
}

Out1 AdamW::second_moment(const Param& param) {
  return moment(second_, param);
}

}  // namespace hadal
