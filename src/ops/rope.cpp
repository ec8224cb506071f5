#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/kernels.h"
#include "ops/rows.h"

namespace hadal {
namespace {

void check_params(const RopeParams& p) {
  using Type = RopeParams::Type;
  HADAL_CHECK(p.dim > 0 && p.dim % 2 == 0, kConfig, "rope: dim is ", p.dim,
              ", expected an even number above 0");
  HADAL_CHECK(p.theta > 1 && std::isfinite(p.theta), kConfig, "rope: theta is ", p.theta,
              ", expected a number above 1");
  HADAL_CHECK(p.groups >= 1, kConfig, "rope: groups is ", p.groups, ", expected at least 1");
  HADAL_CHECK(std::isfinite(p.attention_factor) && p.attention_factor > 0, kConfig,
              "rope: attention_factor is ", p.attention_factor, ", expected a number above 0");
  if (p.type == Type::kDefault) return;
  HADAL_CHECK(std::isfinite(p.factor) && p.factor > 0, kConfig, "rope: factor is ", p.factor,
              ", expected a number above 0");
  if (p.type == Type::kLinear) return;
  HADAL_CHECK(p.original_max_position > 0, kConfig, "rope: original_max_position_embeddings is ",
              p.original_max_position, ", expected a number above 0");
  if (p.type == Type::kYarn) {
    HADAL_CHECK(p.beta_slow > 0 && p.beta_fast >= p.beta_slow && std::isfinite(p.beta_fast),
                kConfig, "rope: beta_fast is ", p.beta_fast, " and beta_slow ", p.beta_slow,
                ", expected beta_fast >= beta_slow > 0");
  } else {
    HADAL_CHECK(p.low_freq_factor > 0 && p.high_freq_factor > p.low_freq_factor &&
                    std::isfinite(p.high_freq_factor),
                kConfig, "rope: low_freq_factor is ", p.low_freq_factor, " and high_freq_factor ",
                p.high_freq_factor, ", expected 0 < low_freq_factor < high_freq_factor");
  }
}

// The pairs between which YaRN goes over from extrapolation (fast) to interpolation (slow).
struct CorrectionRange {
  double low, high;
};

CorrectionRange yarn_correction_range(const RopeParams& p, int64_t dim) {
  // The pair, as a real number, that turns `rotations` times over the original context.
  const auto pair_of = [&](double rotations) {
    const auto length = static_cast<double>(p.original_max_position);
    return static_cast<double>(dim) * std::log(length / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(p.theta));
  };
  double low = pair_of(p.beta_fast), high = pair_of(p.beta_slow);
  if (p.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;  // as Hugging Face does, against division by zero
  return {low, high};
}

double llama3_frequency(const RopeParams& p, double frequency) {
  const double rotations =
      static_cast<double>(p.original_max_position) * frequency / (2 * std::numbers::pi);
  if (rotations > p.high_freq_factor) return frequency;
  if (rotations < p.low_freq_factor) return frequency / p.factor;
  const double smooth = (rotations - p.low_freq_factor) / (p.high_freq_factor - p.low_freq_factor);
  return (1 - smooth) * frequency / p.factor + smooth * frequency;
}

void check_rope(const char* op, Out2 x, Ids positions, const RopeTable& table,
                const RopeLayout& layout) {
  check_length(op, "positions", positions, x.dim(0), "row of x");
  HADAL_CHECK(layout.heads >= 1 && layout.first >= 0 &&
                  (layout.heads == 1 || layout.head_stride >= table.dim()),
              kShape, op, ": impossible layout of ", layout.heads, " heads from column ",
              layout.first, " with stride ", layout.head_stride, " and ", table.dim(),
              " rotated numbers each");
  const int64_t columns = layout.first + (layout.heads - 1) * layout.head_stride + table.dim();
  HADAL_CHECK(columns <= x.dim(1), kShape, op, ": the heads end at column ", columns, " but x has ",
              x.dim(1));
  HADAL_CHECK(layout.one_group < table.groups(), kShape, op, ": group ", layout.one_group,
              " of a table of ", table.groups());
  HADAL_CHECK(layout.one_group >= 0 || layout.heads % table.groups() == 0, kShape, op, ": ",
              layout.heads, " heads cannot be split into ", table.groups(), " groups");
  for (int64_t t = 0; t < x.dim(0); ++t) {
    const int32_t position = positions.data()[t];
    if (position < 0 || position >= table.positions()) [[unlikely]] {
      throw Error(ErrorKind::kShape, str(op, ": position ", position, " of row ", t,
                                         " is outside 0 .. ", table.positions() - 1));
    }
  }
}

// direction 1 turns forward, -1 back.
void turn(Out2 x, Ids positions, const RopeTable& table, const RopeLayout& layout,
          float direction) {
  const Kernels& k = kernels();
  const auto kernel = layout.pairs == RopePairs::kAdjacent ? k.rope_adjacent : k.rope_halves;
  // Neighbouring heads of one group share their angles: one kernel call for all of them.
  const int64_t runs = layout.one_group >= 0 ? 1 : table.groups();
  const int64_t heads = layout.heads / runs;
  parallel_for(x.dim(0), task_grain(layout.heads * table.dim()), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t position = positions.data()[t];
      for (int64_t run = 0; run < runs; ++run) {
        const int64_t group = layout.one_group >= 0 ? layout.one_group : run;
        kernel(x.row(t) + layout.first + run * heads * layout.head_stride,
               table.cos(group, position), table.sin(group, position), direction, table.dim() / 2,
               heads, layout.head_stride);
      }
    }
  });
}

}  // namespace

// Group g's band is the g-th part of the spectrum of one head of groups * dim numbers, so all
// scaling is worked out on that whole spectrum: with one group it is the ordinary one.
std::vector<double> rope_frequencies(const RopeParams& p, int64_t group) {
  check_params(p);
  HADAL_CHECK(group >= 0 && group < p.groups, kConfig, "rope: group ", group, " of ", p.groups);
  const int64_t dim = p.groups * p.dim, pairs = p.dim / 2;
  std::vector<double> frequencies;
  for (int64_t i = group * pairs; i < (group + 1) * pairs; ++i) {
    const double frequency =
        std::pow(p.theta, -static_cast<double>(2 * i) / static_cast<double>(dim));
    switch (p.type) {
      case RopeParams::Type::kDefault:
        frequencies.push_back(frequency);
        break;
      case RopeParams::Type::kLinear:
        frequencies.push_back(frequency / p.factor);
        break;
      case RopeParams::Type::kYarn: {
        const auto [low, high] = yarn_correction_range(p, dim);
        const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        frequencies.push_back(frequency / p.factor * ramp + frequency * (1 - ramp));
        break;
      }
      case RopeParams::Type::kLlama3:
        frequencies.push_back(llama3_frequency(p, frequency));
        break;
    }
  }
  return frequencies;
}

RopeTable::RopeTable(const RopeParams& params, int64_t positions)
    : positions_(positions), groups_(params.groups), dim_(params.dim) {
  check_params(params);
  HADAL_CHECK(positions >= 0, kConfig, "rope: a table of ", positions, " positions");
  cos_ = Tensor<float, 2>({groups_ * positions, dim_ / 2});
  sin_ = Tensor<float, 2>({groups_ * positions, dim_ / 2});
  for (int64_t group = 0; group < groups_; ++group) {
    const std::vector<double> frequencies = rope_frequencies(params, group);
    parallel_for(positions, 64, [&](int64_t begin, int64_t end) {
      for (int64_t position = begin; position < end; ++position) {
        const int64_t row = group * positions + position;
        for (size_t i = 0; i < frequencies.size(); ++i) {
          const double angle = static_cast<double>(position) * frequencies[i];
          cos_.row(row)[i] = static_cast<float>(std::cos(angle) * params.attention_factor);
          sin_.row(row)[i] = static_cast<float>(std::sin(angle) * params.attention_factor);
        }
      }
    });
  }
}

void rope(Out2 x, Ids positions, const RopeTable& table, const RopeLayout& layout) {
  check_rope("rope", x, positions, table, layout);
  turn(x, positions, table, layout, 1.0f);
}

void rope_backward(Out2 dx, Ids positions, const RopeTable& table, const RopeLayout& layout) {
  check_rope("rope_backward", dx, positions, table, layout);
  turn(dx, positions, table, layout, -1.0f);
}

}  // namespace hadal
