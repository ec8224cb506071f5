#pragma once
#include <string>

#include "model/transformer.h"

namespace hadal {

// hadal bench --trace: replays the requests of a file through the engine and prints how long they
// had to wait.
int bench_trace(Transformer& model, const std::string& file, double speed, Precision precision,
                bool json);

}  // namespace hadal
