#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "ops/linear.h"

namespace hadal {

// What the optimizer, the number formats and the counts must tell apart.
enum class ParamGroup {
  kMatrix,      // weight of a Linear: decays, may be quantised
  kEmbedding,   // looked up
  kHead,        // the output head
  kRouter,      // gate weight: FP32 arithmetic
  kNorm,        // gains and biases of norms
  kBias,        // biases of Linears
  kRouterBias,  // e_score_correction_bias: moved by balance, never by gradients; always FP32
};

// What the deviation of the first weights is.
enum class FirstWeights {
  kNormal,  // the one given, of everything
  // 1/sqrt(inputs) for matrices, head and routers. An embedding is a vector of its own plus one
  // that all share, both of the deviation given: without biases, only what tokens have in common
  // lets a head prefer the tokens just before, whatever they are, from the first step on.
  kScaled,
};

// Bytes, rounded up to whole cache lines: every tensor begins on one.
constexpr int64_t whole_lines(int64_t bytes) {
  constexpr int64_t kLine = 64;
  return (bytes + kLine - 1) / kLine * kLine;
}

// One tensor of the checkpoint, under the checkpoint's name. [rows, cols]; vectors have rows = 1.
struct Param {
  std::string name;
  std::vector<int64_t> shape;  // as in the file
  ParamGroup group = ParamGroup::kMatrix;
  int64_t layer = -1;   // -1 outside the layers; MTP modules continue after the last layer
  bool expert = false;  // one of the routed experts: active only when chosen

  DType dtype = DType::kF32;  // of value; training always F32
  int64_t block_bytes = 0;    // of a quantised value, dtype U8 (kernels/panels.h); else 0
  void* value = nullptr;
  const float* code_scales = nullptr;  // of a value that is codes, dtype F8_E4M3 (core/tensor.h)
  float* gradient = nullptr;           // FP32, or null when serving
  bool paged = false;  // value lies in a file that memory may not hold: to be read ahead of its use
  bf16* rounded = nullptr;  // value as training's products read it, where it is kept, else null
  float* rounded_scales = nullptr;  // of it in FP8

  // Read by FP8 products (V3 report, sec. 3.3), and stored as FP8: the matrices of Linears, apart
  // from the projection of an MTP module, as in the released files.
  bool fp8_matrix() const {
    return group == ParamGroup::kMatrix && !name.ends_with(".eh_proj.weight");
  }
  // Its codes may be held as they are in the file: what rows are multiplied by.
  bool holds_codes() const {
    return shape.size() == 2 && (group == ParamGroup::kMatrix || group == ParamGroup::kHead);
  }
  // May be held as int8 or int4: what products multiply rows by. The two halves of kv_b_proj are
  // multiplied from either side when latent attention is absorbed, which panels do not serve.
  bool packable() const { return holds_codes() && !name.ends_with(".kv_b_proj.weight"); }
  // Small and sensitive: held in FP32 whatever the matrices are stored as.
  bool always_f32() const {
    return group == ParamGroup::kNorm || group == ParamGroup::kBias ||
           group == ParamGroup::kRouter || group == ParamGroup::kRouterBias;
  }
  int64_t value_bytes() const;  // scales included
  // One for each block of 128 x 128 of codes; of others 0.
  int64_t scale_count() const;
  int64_t cols() const { return shape.back(); }
  int64_t rows() const { return shape.size() == 2 ? shape[0] : 1; }
  int64_t size() const { return rows() * cols(); }
  WeightView weight() const {
    WeightView view(dtype, value, rows(), cols());
    view.block_bytes = block_bytes;
    view.scales = code_scales;
    if (code_scales != nullptr) view.tile_rows = kFp8BlockRows, view.tile_cols = kFp8BlockCols;
    return view;
  }
  // As a product of this precision reads it; the same numbers to it.
  WeightView weight(Precision precision) const {
    const bool fp8 = rounded_scales != nullptr;
    if (rounded == nullptr || (fp8 ? !is_fp8(precision) : precision != Precision::kBf16)) {
      return weight();
    }
    WeightView view(DType::kBF16, rounded, rows(), cols());
    view.scales = rounded_scales;
    if (fp8) view.tile_rows = kFp8BlockRows, view.tile_cols = kFp8BlockCols;
    return view;
  }
  In1 vec() const { return {static_cast<const float*>(value), {size()}}; }
  Out1 vec_mut() const { return {static_cast<float*>(value), {size()}}; }
  Out2 grad() const { return gradient == nullptr ? Out2() : Out2(gradient, {rows(), cols()}); }
  Out1 grad_vec() const { return gradient == nullptr ? Out1() : Out1(gradient, {size()}); }
};

// The one list of a model's tensors. Modules add their own when they are made, which costs no
// memory; the loader, the saver, the optimizer, EMA and the counts loop over it.
class Params {
 public:
  // The returned pointer stays valid. Error{kInternal} when the name is taken.
  Param* add(std::string name, std::vector<int64_t> shape, ParamGroup group, int64_t layer = -1,
             bool expert = false);
  Param* find(std::string_view name);
  std::deque<Param>& all() { return list_; }
  const std::deque<Param>& all() const { return list_; }
  int64_t count() const;  // numbers in all tensors, router biases apart

  // FP32 values and gradients for every parameter, in two blocks of memory.
  void allocate_training();
  // Values only, every parameter in its own dtype (norms, biases, routers in FP32).
  void allocate_values();
  void zero_gradients();
  // Keeps a copy of the matrices that products of this precision read, in BF16 or, those of FP8, as
  // E4M3 numbers with scales (ops/fp8.h), made anew now; none in FP32. Whoever then changes a value
  // rounds it again: the optimizer those in BF16 by pieces, others all with this.
  void round_weights(Precision precision);
  // First weights: ones for norm gains (names ending in "norm.weight" or "layernorm.weight"), zeros
  // for biases, normal numbers for the rest. Parameter i draws from stream i of the seed.
  void initialise(uint64_t seed, double deviation, FirstWeights kind = FirstWeights::kNormal);
  int64_t value_bytes() const;
  int64_t gradient_bytes() const;
  int64_t rounded_bytes() const { return rounded_.bytes() + scales_.bytes(); }
  // Keeps `owner` alive as long as the list: mapped files whose bytes are values.
  void keep(std::shared_ptr<const void> owner) { owners_.push_back(std::move(owner)); }

 private:
  std::deque<Param> list_;
  std::unordered_map<std::string, Param*> by_name_;
  Buffer values_, gradients_, rounded_, scales_;
  std::vector<std::shared_ptr<const void>> owners_;
};

}  // namespace hadal
