#pragma once
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace hadal {

// Frequencies of rotary position embedding and what context extension does to them (V3 report,
// sec. 4.3; YaRN paper; Hugging Face `rope_type` default, linear, yarn, llama3).
struct RopeParams {
  enum class Type { kDefault, kLinear, kYarn, kLlama3 };
  int64_t dim = 0;  // rotated numbers of a head; even
  double theta = 10000;
  Type type = Type::kDefault;
  double factor = 1;
  int64_t original_max_position = 0;                 // yarn, llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  // Multiplies cos and sin. YaRN: mscale(factor, mscale) / mscale(factor, mscale_all_dim); the
  // config layer works it out from the four forms found in the world.
  double attention_factor = 1;
  bool truncate = true;  // yarn: correction range rounded outwards to whole dimensions
  // Multi-scale RoPE (an option of ours): heads are split into `groups` contiguous groups; group g
  // turns with the g-th band of the spectrum, theta^-((g + 2i/dim) / groups), so that the first
  // group sees short range and the last long range. 1 = the ordinary spectrum.
  int64_t groups = 1;
};

// Angles per position of one head group, [dim / 2], after scaling. Error{kConfig} on impossible
// values.
std::vector<double> rope_frequencies(const RopeParams& params, int64_t group);

// cos and sin for positions 0 .. positions()-1, computed in double, kept in FP32.
// cos, sin [groups * positions, dim / 2]; row = group * positions + position.
class RopeTable {
 public:
  RopeTable() = default;
  RopeTable(const RopeParams& params, int64_t positions);
  int64_t positions() const { return positions_; }
  int64_t groups() const { return groups_; }
  int64_t dim() const { return dim_; }
  const float* cos(int64_t group, int64_t position) const {
    return cos_.row(group * positions_ + position);
  }
  const float* sin(int64_t group, int64_t position) const {
    return sin_.row(group * positions_ + position);
  }

 private:
  int64_t positions_ = 0, groups_ = 0, dim_ = 0;
  Tensor<float, 2> cos_, sin_;
};

// Which numbers of a head form a pair: (2i, 2i+1) as DeepSeek, or (i, i + dim/2) as Llama.
enum class RopePairs { kAdjacent, kHalves };

// Where the rotated part lies: x [T, >= ...] holds `heads` heads, head h at column
// first + h * head_stride, table.dim() columns each. Head h belongs to group h * groups / heads.
// With one_group >= 0 all heads turn with that group (the shared rope key of MLA).
struct RopeLayout {
  int64_t heads = 1;
  int64_t head_stride = 0;
  int64_t first = 0;
  RopePairs pairs = RopePairs::kAdjacent;
  int64_t one_group = -1;
};

// Turns x in place. positions [T], each below table.positions() (Error{kShape} otherwise).
void rope(Out2 x, Ids positions, const RopeTable& table, const RopeLayout& layout);
// The adjoint: turns dx back in place (and scales by attention_factor again, as the forward did).
void rope_backward(Out2 dx, Ids positions, const RopeTable& table, const RopeLayout& layout);

}  // namespace hadal
