#include "cli/bench_trace.h"

#include <fmt/format.h>

#include "cli/options.h"
#include "core/files.h"
#include "infer/trace.h"

namespace hadal {
namespace {

OrderedJson latency_json(const Latency& l) {
  return {{"p50_s", l.p50}, {"p99_s", l.p99}};
}

void print_latency(const char* what, const Latency& l) {
  fmt::print("{:<26}{:>10.3f}{:>10.3f}\n", what, l.p50, l.p99);
}

}  // namespace

int bench_trace(Transformer& model, const TraceReplay& o) {
  const std::vector<TraceRequest> trace = parse_trace(read_file(o.file), o.file);
  Engine engine(model, {.cache_dtype = o.cache, .precision = o.precision});
  const ModelConfig& config = model.config();
  const TraceResult r =
      replay_trace(engine, trace, o.speed, config.vocab_size, config.max_position_embeddings);
  const double prompts = double(r.prompt_tokens) / r.seconds,
               outputs = double(r.output_tokens) / r.seconds;
  if (o.json) {
    print_json({{"requests", r.requests},
                {"seconds", r.seconds},
                {"prompt_tokens", r.prompt_tokens},
                {"output_tokens", r.output_tokens},
                {"prompt_tokens_per_s", prompts},
                {"output_tokens_per_s", outputs},
                {"time_to_first_token", latency_json(r.first_token)},
                {"time_between_tokens", latency_json(r.between_tokens)},
                {"prefix_cache_hit_rate", r.engine.hit_rate()},
                {"preemptions", r.engine.preemptions},
                {"steps", r.engine.steps},
                {"drafted", r.engine.drafted},
                {"accepted", r.engine.accepted}});
    return 0;
  }
  fmt::print("{} requests in {:.1f} s: {:.1f} tokens/s of prompts, {:.1f} written\n", r.requests,
             r.seconds, prompts, outputs);
  fmt::print("{:<26}{:>10}{:>10}\n", "seconds", "median", "99%");
  print_latency("to the first token", r.first_token);
  print_latency("between tokens", r.between_tokens);
  fmt::print("prompt tokens found in the prefix cache {:.1f}%, texts preempted {}\n",
             100 * r.engine.hit_rate(), r.engine.preemptions);
  return 0;
}

}  // namespace hadal
