#pragma once
#include <string>

#include "core/json.h"
#include "infer/bench.h"

namespace hadal {

// One line of hadal bench: a phase, timed between two looks at the roof.
struct BenchRow {
  std::string phase;  // "prefill" or "decode"
  ServingWork work;
  ServingTime time{};
  double roof = 0;  // the better of before and after: bytes/s read, for prompts operations/s
  bool unstable = false;
  int64_t peak_bytes = 0;  // the most memory that the process had while it was timed

  double share() const {
    return time.tokens_per_s * (decoding() ? time.bytes_per_token : time.flops_per_token) / roof;
  }
  bool decoding() const { return phase == "decode"; }
};

// Fills in what was measured; once more when the machine changed meanwhile.
void measure(Transformer& model, BenchRow& row);
// The most memory of this process since it was last forgotten, in bytes: measure() forgets, for
// what measuring the roof takes is none of the model's. Where the system does not let it be
// forgotten, it counts too.
int64_t peak_memory();

OrderedJson row_json(const BenchRow& row);
void print_head();
void print_row(const BenchRow& row);

}  // namespace hadal
