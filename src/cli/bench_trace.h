#pragma once
#include <optional>
#include <string>

#include "model/transformer.h"

namespace hadal {

struct TraceReplay {
  std::string file;
  double speed = 1;
  std::optional<Precision> precision = {};  // of prompts
  DType cache = DType::kBF16;
  bool json = false;
};
// hadal bench --trace: replays the requests of a file through the engine and prints how long they
// had to wait.
int bench_trace(Transformer& model, const TraceReplay& replay);

}  // namespace hadal
