#include "infer/served_model.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace hadal {

Precision prompt_precision(const Params& params) {
  const auto fits = [](const Param& p) {
    return p.group != ParamGroup::kMatrix || p.dtype != DType::kF32;
  };
  const auto& all = params.all();
  const bool bf16 = has_bf16_dots() && std::all_of(all.begin(), all.end(), fits);
  return bf16 ? Precision::kBf16 : Precision::kFp32;
}

}  // namespace hadal
