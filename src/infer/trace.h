#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "infer/engine.h"

namespace hadal {

// One request of a trace. Tokens are made up: what matters is when it comes, how long it is and
// what it shares.
struct TraceRequest {
  double arrival_s = 0;
  int64_t prompt_tokens = 0, output_tokens = 0;
  // Of each 512 tokens of the prompt: equal numbers stand for equal tokens. Without them a prompt
  // shares nothing.
  std::vector<int64_t> hash_ids = {};
};

// JSON lines, one request each: {"arrival": seconds, "prompt_tokens": n, "output_tokens": n}; or,
// as published traces have it, {"timestamp": milliseconds, "input_length": n, "output_length": n,
// "hash_ids": [...]}. In order of arrival. Error{kFormat} names file, line and key.
std::vector<TraceRequest> parse_trace(std::string_view text, const std::string& name);

struct Latency {  // seconds
  double p50 = 0, p99 = 0;
};
struct TraceResult {
  double seconds = 0;  // from the first arrival to the last token
  int64_t requests = 0, prompt_tokens = 0, output_tokens = 0;
  // From a request's arrival, though it be late in reaching the engine; between its later tokens.
  Latency first_token, between_tokens;
  EngineStats engine;
};
// Submits the requests when they are due, `speed` times as fast as the trace says, and steps until
// all have ended. Greedy; every request writes as many tokens as it should. Error{kUsage} names the
// first request that does not fit `context`; what ends a text in an error is thrown.
TraceResult replay_trace(Engine& engine, const std::vector<TraceRequest>& trace, double speed,
                         int64_t vocabulary, int64_t context);

}  // namespace hadal
