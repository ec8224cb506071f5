#include "model/params.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "core/step_clock.h"
#include "ops/fp8.h"
#include "ops/optimizer.h"
#include "quant/formats.h"

namespace hadal {
namespace {

bool in_fp8(const Param& p, Precision precision) {
  return is_fp8(precision) && p.fp8_matrix();
}

int64_t fp8_blocks(const Param& p) {
  return blocks(p.rows(), kFp8Block.rows) * blocks(p.cols(), kFp8Block.cols);
}

}  // namespace

int64_t Param::scale_count() const {
  if (dtype != DType::kF8E4M3) return 0;
  return blocks(rows(), kFp8BlockRows) * blocks(cols(), kFp8BlockCols);
}

int64_t Param::value_bytes() const {
  if (block_bytes == 0) {
    return size() * dtype_size(dtype) + scale_count() * dtype_size(DType::kF32);
  }
  const Format* format = format_of(dtype, block_bytes);
  HADAL_CHECK(format != nullptr, kInternal, "parameter ", name, " is held in blocks of ",
              block_bytes, " bytes, which no format has");
  return code_bytes(*format, rows(), cols());
}

Param* Params::add(std::string name, std::vector<int64_t> shape, ParamGroup group, int64_t layer,
                   bool expert) {
  HADAL_CHECK(!by_name_.contains(name), kInternal, "parameter ", name, " is listed twice");
  HADAL_CHECK(shape.size() == 1 || shape.size() == 2, kInternal, "parameter ", name, " has rank ",
              shape.size(), ", expected 1 or 2");
  Param& param = list_.emplace_back();
  param.name = std::move(name);
  param.shape = std::move(shape);
  param.group = group;
  param.layer = layer;
  param.expert = expert;
  by_name_.emplace(param.name, &param);
  return &param;
}

Param* Params::find(std::string_view name) {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : found->second;
}

int64_t Params::count() const {
  int64_t total = 0;
  for (const Param& p : list_) {
    if (p.group != ParamGroup::kRouterBias) total += p.size();
  }
  return total;
}

void Params::allocate_values() {
  int64_t bytes = 0;
  const auto scale_bytes = [](const Param& p) { return p.scale_count() * int64_t{sizeof(float)}; };
  const auto codes_bytes = [&](const Param& p) {
    return whole_lines(p.value_bytes() - scale_bytes(p));
  };
  for (Param& p : list_) {
    if (p.always_f32()) p.dtype = DType::kF32, p.block_bytes = 0;
    bytes += codes_bytes(p) + whole_lines(scale_bytes(p));
  }
  values_ = Buffer(bytes);
  int64_t offset = 0;
  for (Param& p : list_) {
    p.value = values_.data() + offset;
    offset += codes_bytes(p);
    p.code_scales = nullptr;
    if (p.scale_count() > 0) p.code_scales = reinterpret_cast<float*>(values_.data() + offset);
    offset += whole_lines(scale_bytes(p));
  }
}

void Params::allocate_training() {
  int64_t bytes = 0;
  for (Param& p : list_) {
    p.dtype = DType::kF32;
    p.block_bytes = 0;
    if (p.group != ParamGroup::kRouterBias) bytes += whole_lines(p.size() * int64_t{sizeof(float)});
  }
  allocate_values();
  gradients_ = Buffer(bytes);
  int64_t offset = 0;
  for (Param& p : list_) {
    if (p.group == ParamGroup::kRouterBias) continue;
    p.gradient = reinterpret_cast<float*>(gradients_.data() + offset);
    offset += whole_lines(p.size() * int64_t{sizeof(float)});
  }
}

void Params::zero_gradients() {
  const TimedPart timed(StepPart::kOptimizer);
  constexpr int64_t kPiece = int64_t{1} << 18;
  parallel_for(gradients_.bytes(), kPiece, [&](int64_t begin, int64_t end) {
    std::memset(gradients_.data() + begin, 0, static_cast<size_t>(end - begin));
  });
}

void Params::round_weights(Precision precision) {
  if (precision == Precision::kFp32) return;
  if (rounded_.bytes() == 0) rounded_ = Buffer(values_.bytes() / 2);
  const auto* first = static_cast<const std::byte*>(values_.data());
  std::vector<Param*> matrices;
  int64_t scales = 0;
  for (Param& p : list_) {
    if (p.group != ParamGroup::kMatrix && p.group != ParamGroup::kHead) continue;
    // As far apart as the values are: what follows in one follows in the other.
    const int64_t offset = static_cast<const std::byte*>(p.value) - first;
    p.rounded = reinterpret_cast<bf16*>(rounded_.data() + offset / 2);
    matrices.push_back(&p);
    if (in_fp8(p, precision)) scales += fp8_blocks(p);
  }
  if (scales_.bytes() == 0) scales_ = Buffer(scales * int64_t{sizeof(float)});
  auto* scale = reinterpret_cast<float*>(scales_.data());
  for (Param* p : matrices) {
    if (!in_fp8(*p, precision)) continue;
    p->rounded_scales = scale;
    scale += fp8_blocks(*p);
  }
  parallel_tasks(static_cast<int64_t>(matrices.size()), [&](int64_t i) {
    const Param& p = *matrices[static_cast<size_t>(i)];
    if (p.rounded_scales != nullptr) {
      return round_to_fp8(p.weight().floats(), p.rounded, p.rounded_scales);
    }
    round_to_bf16(p.vec(), {p.rounded, {p.size()}});
  });
}

void Params::initialise(uint64_t seed, double deviation, FirstWeights kind) {
  parallel_tasks(static_cast<int64_t>(list_.size()), [&](int64_t i) {
    const Param& p = list_[static_cast<size_t>(i)];
    HADAL_CHECK(p.value != nullptr && p.dtype == DType::kF32, kInternal, "parameter ", p.name,
                " has no FP32 memory to initialise");
    auto* values = static_cast<float*>(p.value);
    const bool gain = p.group == ParamGroup::kNorm && p.name.ends_with(".weight");
    if (gain || p.shape.size() == 1) {
      std::fill_n(values, p.size(), gain ? 1.0f : 0.0f);
      return;
    }
    const bool scaled = kind == FirstWeights::kScaled;
    const bool embedding = p.group == ParamGroup::kEmbedding;
    const int64_t width = p.shape[1];
    const double std = scaled && !embedding ? 1 / std::sqrt(static_cast<double>(width)) : deviation;
    Rng rng(seed, static_cast<uint64_t>(i));
    std::vector<double> shared(static_cast<size_t>(width));
    if (scaled && embedding) {
      for (double& x : shared) x = std * rng.normal();
    }
    for (int64_t j = 0; j < p.size(); ++j) {
      values[j] = static_cast<float>(shared[static_cast<size_t>(j % width)] + std * rng.normal());
    }
  });
}

int64_t Params::value_bytes() const {
  int64_t total = 0;
  for (const Param& p : list_) total += p.value_bytes();
  return total;
}

int64_t Params::gradient_bytes() const {
  return gradients_.bytes();
}

}  // namespace hadal
