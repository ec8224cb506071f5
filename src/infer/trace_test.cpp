#include "infer/trace.h"

#include <gtest/gtest.h>

#include "tests/support/stand_in_model.h"

namespace hadal {
namespace {

TEST(Trace, ReadsBothWaysOfWritingItInOrderOfArrival) {
  const auto trace = parse_trace(
      "{\"arrival\": 1.5, \"prompt_tokens\": 7, \"output_tokens\": 3}\n\n"
      "{\"timestamp\": 250, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [4, 9]}",
      "t.jsonl");
  ASSERT_EQ(trace.size(), 2);
  EXPECT_EQ(trace[0].arrival_s, 0.25);
  EXPECT_EQ(trace[0].prompt_tokens, 600);
  EXPECT_EQ(trace[0].hash_ids, (std::vector<int64_t>{4, 9}));
  EXPECT_EQ(trace[1].arrival_s, 1.5);
  EXPECT_EQ(trace[1].output_tokens, 3);
}

TEST(Trace, WhatIsWrongIsNamedWithItsLine) {
  const struct {
    const char *text, *message;
  } cases[] = {
      {"", "t.jsonl: no requests"},
      {"\n{\"arrival\": 0}", "t.jsonl, line 2: no \"prompt_tokens\""},
      {"{\"arrival\": -1, \"prompt_tokens\": 1, \"output_tokens\": 1}", "arrival is -1 s"},
      {"{\"arrival\": 0, \"prompt_tokens\": 0, \"output_tokens\": 1}",
       "\"prompt_tokens\" is 0, expected 1 to"},
      {"{\"arrival\": \"x\", \"prompt_tokens\": 1, \"output_tokens\": 1}", "line 1: arrival"},
      {"[]", "t.jsonl, line 1"},
      {"{\"arrival\": 0", "t.jsonl, line 1"},
  };
  for (const auto& c : cases) EXPECT_ERROR(parse_trace(c.text, "t.jsonl"), kFormat, c.message);
}

TEST(Trace, EveryRequestIsAsLongAsItSays) {
  std::vector<TraceRequest> trace;
  for (int64_t i = 0; i < 40; ++i) trace.push_back({double(i) / 10, 1 + i * 3, 1 + i % 7});
  // The same first 512 tokens, in the prefix cache when the second comes.
  trace.push_back({4, 300, 2, {77}});
  trace.push_back({1000, 300, 2, {77}});
  Engine engine(std::make_unique<StandInModel>(),
                {.cache_dtype = DType::kF32, .cache_tokens = 24 * KvCache::kPageTokens});
  const TraceResult r = replay_trace(engine, trace, 10'000, StandInModel::kVocabulary, 512);
  int64_t prompts = 0, outputs = 0;
  for (const TraceRequest& q : trace) prompts += q.prompt_tokens, outputs += q.output_tokens;
  EXPECT_EQ(r.requests, 42);
  EXPECT_EQ(r.prompt_tokens, prompts);
  EXPECT_EQ(r.output_tokens, outputs);
  EXPECT_EQ(r.engine.ended[size_t(Finish::kLength)], 42);
  EXPECT_GE(r.engine.cached_tokens, 256);
  EXPECT_GE(r.seconds, 0.1) << "the last one comes after a tenth of a second";
  EXPECT_GT(r.first_token.p50, 0);
  EXPECT_GE(r.first_token.p99, r.first_token.p50);
  EXPECT_GE(r.between_tokens.p99, r.between_tokens.p50);
}

TEST(Trace, ImpossibleReplaysAreRefused) {
  Engine engine(std::make_unique<StandInModel>());
  EXPECT_ERROR(replay_trace(engine, {{0, 10, 3}, {0, 500, 20}}, 1, 50, 512), kUsage,
               "request 2 of the trace has 500 + 20 tokens, the model's context is 512");
  EXPECT_ERROR(replay_trace(engine, {{0, 10, 3}}, 0, 50, 512), kUsage, "0 times as fast");
}

}  // namespace
}  // namespace hadal
