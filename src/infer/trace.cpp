#include "infer/trace.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <initializer_list>
#include <thread>

#include "core/json.h"
#include "core/rng.h"

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kHashedTokens = 512;
constexpr int64_t kMostTokens = int64_t{1} << 24;
constexpr double kMostSeconds = 1e7;

// The value under the first of `keys` that is there.
const Json& any_of(const Json& line, std::initializer_list<const char*> keys,
                   const std::string& where) {
  for (const char* key : keys) {
    if (line.contains(key)) return line[key];
  }
  throw Error(ErrorKind::kFormat, str(where, ": no \"", *keys.begin(), "\""));
}

int64_t length_of(const Json& line, std::initializer_list<const char*> keys,
                  const std::string& where) {
  const int64_t n = json_int(any_of(line, keys, where), str(where, ": \"", *keys.begin(), "\""));
  HADAL_CHECK(n >= 1 && n <= kMostTokens, kFormat, where, ": \"", *keys.begin(), "\" is ", n,
              ", expected 1 to ", kMostTokens);
  return n;
}

TraceRequest parse_request(const Json& line, const std::string& where) {
  json_object(line, where);
  TraceRequest r;
  const bool seconds = line.contains("arrival");
  r.arrival_s = json_number(any_of(line, {"arrival", "timestamp"}, where), where + ": arrival") *
                (seconds ? 1.0 : 1e-3);
  HADAL_CHECK(r.arrival_s >= 0 && r.arrival_s <= kMostSeconds, kFormat, where, ": arrival is ",
              r.arrival_s, " s, expected 0 to ", kMostSeconds);
  r.prompt_tokens = length_of(line, {"prompt_tokens", "input_length"}, where);
  r.output_tokens = length_of(line, {"output_tokens", "output_length"}, where);
  if (line.contains("hash_ids")) {
    for (const Json& id : json_array(line["hash_ids"], where + ": \"hash_ids\"")) {
      r.hash_ids.push_back(json_int(id, where + ": \"hash_ids\""));
    }
  }
  return r;
}

std::vector<int32_t> prompt_of(const TraceRequest& r, int64_t index, int64_t vocabulary) {
  constexpr uint64_t kShared = 1, kOwn = 2;  // seeds
  std::vector<int32_t> ids;
  for (int64_t block = 0; int64_t(ids.size()) < r.prompt_tokens; ++block) {
    const bool shared = block < int64_t(r.hash_ids.size());
    Rng rng = shared ? Rng(kShared, static_cast<uint64_t>(r.hash_ids[size_t(block)]))
                     : Rng(kOwn, static_cast<uint64_t>(index) << 32 | static_cast<uint64_t>(block));
    const int64_t count = std::min(kHashedTokens, r.prompt_tokens - int64_t(ids.size()));
    for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(rng.below(vocabulary)));
  }
  return ids;
}

Latency latency_of(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double share) {
    return seconds[static_cast<size_t>(std::llround(share * double(seconds.size() - 1)))];
  };
  return {at(0.5), at(0.99)};
}

}  // namespace

std::vector<TraceRequest> parse_trace(std::string_view text, const std::string& name) {
  std::vector<TraceRequest> trace;
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string where = str(name, ", line ", ++number);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    trace.push_back(parse_request(parse_json(line, where), where));
  }
  HADAL_CHECK(!trace.empty(), kFormat, name, ": no requests");
  std::stable_sort(trace.begin(), trace.end(), [](const TraceRequest& a, const TraceRequest& b) {
    return a.arrival_s < b.arrival_s;
  });
  return trace;
}

TraceResult replay_trace(Engine& engine, const std::vector<TraceRequest>& trace, double speed,
                         int64_t vocabulary, int64_t context) {
  HADAL_CHECK(speed > 0, kUsage, "a trace cannot be replayed ", speed, " times as fast");
  for (size_t i = 0; i < trace.size(); ++i) {
    HADAL_CHECK(trace[i].prompt_tokens + trace[i].output_tokens <= context, kUsage, "request ",
                i + 1, " of the trace has ", trace[i].prompt_tokens, " + ", trace[i].output_tokens,
                " tokens, the model's context is ", context);
  }
  TraceResult result;
  std::vector<double> first, between;
  std::vector<Clock::time_point> newest(trace.size());
  std::vector<bool> began(trace.size());
  std::optional<Error> failure;
  const auto start = Clock::now();
  const double zero = trace.front().arrival_s;
  const auto due = [&](size_t i) {
    const std::chrono::duration<double> after((trace[i].arrival_s - zero) / speed);
    return start + std::chrono::duration_cast<Clock::duration>(after);
  };
  const auto submit = [&](size_t i) {
    Request request;
    request.prompt = prompt_of(trace[i], int64_t(i), vocabulary);
    request.sampling.temperature = 0;
    request.max_tokens = trace[i].output_tokens;
    request.on_token = [&, i](const NewToken&) {
      const auto now = Clock::now();
      const auto since = began[i] ? newest[i] : due(i);
      (began[i] ? between : first).push_back(std::chrono::duration<double>(now - since).count());
      newest[i] = now;
      began[i] = true;
      ++result.output_tokens;
      return true;
    };
    request.on_end = [&](const SampleEnd& end) {
      if (end.error && !failure) failure = end.error;
    };
    engine.submit(std::move(request));
    result.prompt_tokens += trace[i].prompt_tokens;
  };
  size_t next = 0;
  bool busy = true;
  while (busy || next < trace.size()) {
    if (!busy) std::this_thread::sleep_until(due(next));
    while (next < trace.size() && due(next) <= Clock::now()) submit(next++);
    busy = engine.step();
    if (failure) throw Error(*failure);
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  result.requests = int64_t(trace.size());
  result.first_token = latency_of(std::move(first));
  result.between_tokens = latency_of(std::move(between));
  result.engine = engine.stats();
  return result;
}

}  // namespace hadal
