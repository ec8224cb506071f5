#include "train/adamw.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "core/step_clock.h"
#include "ops/fp8.h"
#include "ops/optimizer.h"

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

double WeightDecay::of(ParamGroup group) const {
  switch (group) {
    case ParamGroup::kMatrix:
      return matrix;
    case ParamGroup::kEmbedding:
      return embedding;
    case ParamGroup::kHead:
      return head;
    case ParamGroup::kRouter:
      return router;
    case ParamGroup::kNorm:
      return norm;
    case ParamGroup::kBias:
      return bias;
    case ParamGroup::kRouterBias:
      break;
  }
  return 0;
}

double gradient_norm(const Params& params, std::vector<double>* layers) {
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
  if (layers != nullptr) {
    layers->clear();
    for (size_t i = 0; i < pieces.size(); ++i) {
      const auto at = static_cast<size_t>(1 + list[pieces[i].index].layer);
      if (layers->size() <= at) layers->resize(at + 1);
      (*layers)[at] += sums[i];
    }
    for (double& sum : *layers) sum = std::sqrt(sum);
  }
  return std::sqrt(total);
}

AdamW::AdamW(Params& params, const AdamWOptions& options) : options_(options) {
  HADAL_CHECK(options.moments == DType::kF32 || options.moments == DType::kBF16, kInternal,
              "moments are kept as F32 or BF16, not ", dtype_name(options.moments));
  int64_t numbers = 0;
  for (Param& p : params.all()) {
    if (p.gradient == nullptr) continue;
    HADAL_CHECK(p.dtype == DType::kF32 && p.value != nullptr, kInternal, "parameter ", p.name,
                " has a gradient but no FP32 value to update");
    slots_.push_back({&p, numbers});
    numbers += (p.size() + 31) / 32 * 32;
  }
  first_ = Buffer(numbers * dtype_size(options.moments));
  second_ = Buffer(numbers * dtype_size(options.moments));
}

void AdamW::step(double lr, double norm) {
  const TimedPart timed(StepPart::kOptimizer);
  ++updates_;
  const auto t = static_cast<double>(updates_);
  const bool clips = options_.clip > 0 && norm > options_.clip;
  AdamWRow u;
  u.scale = static_cast<float>(clips ? options_.clip / norm : 1.0);
  u.first_share = static_cast<float>(1 - options_.beta1);
  u.second_share = static_cast<float>(1 - options_.beta2);
  u.step = static_cast<float>(lr / (1 - std::pow(options_.beta1, t)));
  u.inv_root = static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t)));
  u.eps = static_cast<float>(options_.eps);

  const auto pieces = pieces_of(slots_, [](const Slot& s) { return s.param->size(); });
  parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const Slot& slot = slots_[piece.index];
    const Param& p = *slot.param;
    AdamWRow mine = u;
    mine.decay = static_cast<float>(lr * options_.decay.of(p.group));
    const int64_t at = slot.offset + piece.begin, n = piece.end - piece.begin;
    const In1 g(p.gradient + piece.begin, {n});
    const Out1 w(static_cast<float*>(p.value) + piece.begin, {n});
    const auto update = [&]<class T>(T* first, T* second) {
      adamw_update(mine, g, w, View<T, 1>(first + at, {n}), View<T, 1>(second + at, {n}));
    };
    if (options_.moments == DType::kBF16) {
      update(reinterpret_cast<bf16*>(first_.data()), reinterpret_cast<bf16*>(second_.data()));
    } else {
      update(reinterpret_cast<float*>(first_.data()), reinterpret_cast<float*>(second_.data()));
    }
    if (p.rounded != nullptr && p.rounded_scales == nullptr) {
      round_to_bf16(w, {p.rounded + piece.begin, {n}});
    }
  });
  // Blocks of FP8 do not end where pieces do.
  parallel_tasks(static_cast<int64_t>(slots_.size()), [&](int64_t i) {
    const Param& p = *slots_[static_cast<size_t>(i)].param;
    if (p.rounded_scales != nullptr) round_to_fp8(p.weight().floats(), p.rounded, p.rounded_scales);
  });
}

std::span<std::byte> AdamW::moment(Buffer& buffer, const Param& param) const {
  const int64_t size = dtype_size(options_.moments);
  for (const Slot& slot : slots_) {
    if (slot.param != &param) continue;
    return {reinterpret_cast<std::byte*>(buffer.data()) + slot.offset * size,
            static_cast<size_t>(param.size() * size)};
  }
  return {};
}

std::span<std::byte> AdamW::first_moment(const Param& param) {
  return moment(first_, param);
}

std::span<std::byte> AdamW::second_moment(const Param& param) {
  return moment(second_, param);
}

}  // namespace hadal
