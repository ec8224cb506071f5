#include "infer/served_model.h"

#include <algorithm>

namespace hadal {

Precision prompt_precision(const Params& params) {
  const auto fits = [](const Param& p) {
    return p.group != ParamGroup::kMatrix || p.dtype != DType::kF32;
  };
  const auto& all = params.all();
  const bool bf16 = bf16_is_native() && std::all_of(all.begin(), all.end(), fits);
  return bf16 ? Precision::kBf16 : Precision::kFp32;
}

}  // namespace hadal
