#include "infer/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Tokens = std::vector<int32_t>;

ModelConfig tiny_config(int64_t modules) {
  ModelConfig c;
  c.vocab_size = 40;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.moe_intermediate_size = 16;
  c.num_hidden_layers = 2;
  c.num_attention_heads = c.num_key_value_heads = 2;
  c.max_position_embeddings = 320;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = c.v_head_dim = 12;
  c.qk_rope_head_dim = 8;
  c.n_routed_experts = 8;
  c.n_shared_experts = 1;
  c.num_experts_per_tok = 2;
  c.first_k_dense_replace = 1;
  c.n_group = 4;
  c.topk_group = 2;
  c.num_nextn_predict_layers = modules;
  return c;
}

constexpr Speculation kOff{Speculation::Mode::kOff, 0};
Speculation drafts(int64_t n) {
  return {Speculation::Mode::kFixed, n};
}

Tokens some_tokens(int64_t n, uint64_t seed) {
  Rng rng(seed, 3);
  Tokens ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(int32_t(rng.below(39)));
  return ids;
}

// What came of a request.
struct Written {
  std::vector<Tokens> texts;
  std::vector<SampleEnd> ends;
  std::vector<std::vector<Logprobs>> logprobs;
  std::vector<Logprobs> of_prompt;
};

std::shared_ptr<Written> submit(Engine& engine, Request request) {
  auto out = std::make_shared<Written>();
  out->texts.resize(size_t(request.samples));
  out->ends.resize(out->texts.size());
  out->logprobs.resize(out->texts.size());
  request.on_token = [out, more = request.on_token](const NewToken& t) {
    out->texts[size_t(t.sample)].push_back(t.id);
    if (t.logprobs != nullptr) out->logprobs[size_t(t.sample)].push_back(*t.logprobs);
    return !more || more(t);
  };
  request.on_prompt = [out](const std::vector<Logprobs>& l) { out->of_prompt = l; };
  request.on_end = [out](const SampleEnd& e) { out->ends[size_t(e.sample)] = e; };
  engine.submit(std::move(request));
  return out;
}

void finish(Engine& engine) {
  while (engine.step()) {
  }
}

class EngineTest : public testing::Test {
 protected:
  EngineTest() : model_(tiny_config(1)) {
    model_.params().allocate_training();
    model_.params().initialise(5, 0.25);
  }

  Written run(const Request& request, const EngineOptions& options = {}) {
    Engine engine(model_, options);
    const auto out = submit(engine, request);
    finish(engine);
    return *out;
  }
  Tokens text(const Request& request, const EngineOptions& options = {}) {
    return run(request, options).texts[0];
  }
  Request request(double temperature, int64_t tokens, uint64_t seed = 11) {
    Request r;
    r.prompt = {3, 1, 4, 1, 5, 9, 2, 6};
    r.sampling.temperature = temperature;
    r.sampling.seed = seed;
    r.max_tokens = tokens;
    return r;
  }
  // A mixture of lengths, temperatures, penalties and ways to speculate.
  std::vector<Request> mixture(int n) {
    std::vector<Request> list;
    for (int i = 0; i < n; ++i) {
      Request r = request(i % 3 * 0.5, 20 + 7 * (i % 5), uint64_t(i));
      r.prompt = some_tokens(3 + 37 * (i % 6), uint64_t(i % 4));
      r.speculation = i % 2 == 0 ? kOff : drafts(1 + i % 3);
      if (i % 4 == 3) r.sampling.repetition_penalty = 1.3;
      if (i % 4 == 1) r.sampling.presence_penalty = 0.7;
      r.caller = str("caller ", i % 3);
      list.push_back(r);
    }
    return list;
  }
  // Texts of all requests in one engine.
  std::vector<Tokens> together(const std::vector<Request>& requests, const EngineOptions& options,
                               EngineStats* stats = nullptr) {
    Engine engine(model_, options);
    std::vector<std::shared_ptr<Written>> written;
    for (const Request& r : requests) written.push_back(submit(engine, r));
    finish(engine);
    if (stats != nullptr) *stats = engine.stats();
    std::vector<Tokens> texts;
    for (const auto& w : written) texts.push_back(w->texts[0]);
    return texts;
  }

  Transformer model_;
};

TEST_F(EngineTest, speculation_never_changes_a_token) {
  for (double temperature : {0.0, 0.3, 1.0}) {
    for (DType cache : {DType::kF32, DType::kBF16}) {
      const EngineOptions options{.cache_dtype = cache};
      Request r = request(temperature, 100);
      r.speculation = kOff;
      const auto plain = text(r, options);
      ASSERT_EQ(plain.size(), 100u);
      for (int64_t n : {1, 2, 4}) {
        r.speculation = drafts(n);
        const Written drafted = run(r, options);
        EXPECT_EQ(drafted.texts[0], plain) << n << " drafts, temperature " << temperature;
        EXPECT_GT(drafted.ends[0].stats.drafted, 0);
        EXPECT_EQ(drafted.ends[0].stats.tokens, 100);
      }
      r.speculation = {};
      EXPECT_EQ(text(r, options), plain);
    }
  }
}

// Drafts from a part of the vocabulary only are other drafts, and the same text.
TEST_F(EngineTest, a_smaller_draft_head_never_changes_a_token) {
  for (double temperature : {0.0, 1.0}) {
    Request r = request(temperature, 100);
    r.speculation = kOff;
    const auto plain = text(r);
    r.speculation = drafts(2);
    const int64_t all = run(r).ends[0].stats.accepted;
    for (int64_t vocabulary : {1, 7, 16, 39, 1000}) {
      SCOPED_TRACE(vocabulary);
      const Written drafted = run(r, {.draft_vocabulary = vocabulary});
      EXPECT_EQ(drafted.texts[0], plain);
      EXPECT_GT(drafted.ends[0].stats.drafted, 0);
      if (vocabulary >= model_.config().vocab_size) {
        EXPECT_EQ(drafted.ends[0].stats.accepted, all);
      }
      // What is drafted is among those tokens: no other is ever accepted.
      if (vocabulary == 1) {
        EXPECT_LE(drafted.ends[0].stats.accepted, std::count(plain.begin(), plain.end(), 0));
      }
    }
    EXPECT_TRUE(all > 0 || temperature == 0) << "an untrained model only agrees by sampling";
  }
  EXPECT_ERROR(run(request(0, 1), {.draft_vocabulary = -1}), kUsage, "draft vocabulary");
}

TEST_F(EngineTest, the_prompt_may_come_in_pieces) {
  Request r = request(0.8, 30);
  r.prompt = some_tokens(90, 1);
  const auto whole = text(r);
  for (int64_t chunk : {1, 3, 5, 64}) {
    EXPECT_EQ(text(r, {.prompt_chunk = chunk, .lone_prompt_chunk = chunk}), whole)
        << "pieces of " << chunk;
  }
  EXPECT_ERROR(run(r, {.prompt_chunk = 64, .lone_prompt_chunk = 63}), kUsage, "lone prompt");
}

TEST_F(EngineTest, sampled_speculation_has_the_plain_distribution) {
  // Third token of the text: the second that a draft was proposed for. 3,000 seeds each way.
  std::vector<double> plain(40), drafted(40);
  Request r = request(0.7, 3, 0);
  r.prompt = {3, 1};
  r.samples = 3000;
  r.speculation = kOff;
  for (const Tokens& t : run(r).texts) plain[size_t(t[2])] += 1;
  r.speculation = drafts(1);
  r.sampling.seed = 1'000'000;
  for (const Tokens& t : run(r).texts) drafted[size_t(t[2])] += 1;
  double statistic = 0;
  int cells = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] + drafted[i] < 10) continue;
    statistic += (plain[i] - drafted[i]) * (plain[i] - drafted[i]) / (plain[i] + drafted[i]);
    ++cells;
  }
  ASSERT_GT(cells, 3);
  EXPECT_LT(statistic, cells + 4 * std::sqrt(2.0 * cells)) << cells << " cells";
}

TEST_F(EngineTest, a_text_is_the_same_beside_63_others_and_on_any_threads) {
  const auto requests = mixture(64);
  std::vector<Tokens> alone;
  for (const Request& r : requests) alone.push_back(text(r, {.prefix_cache = false}));
  for (int64_t threads : {1, 2, 3}) {
    const ScopedThreads scope(threads);
    EXPECT_EQ(together(requests, {.prompt_chunk = 48, .lone_prompt_chunk = 96}), alone)
        << threads << " threads";
  }
}

TEST_F(EngineTest, a_text_is_the_same_after_preemption) {
  const auto requests = mixture(16);
  const auto alone = together(requests, {});
  for (const bool prefix_cache : {false, true}) {
    EngineStats stats;
    const EngineOptions tight{.cache_tokens = 6 * 64, .prefix_cache = prefix_cache};
    EXPECT_EQ(together(requests, tight, &stats), alone);
    EXPECT_GT(stats.preemptions, 0);
    EXPECT_GT(stats.replayed_tokens, 0);
    EXPECT_LE(stats.pages_in_use, 6);
    EXPECT_EQ(stats.pages_in_use, stats.prefix_pages);
  }
}

TEST_F(EngineTest, a_text_is_the_same_with_pages_from_the_prefix_cache) {
  Request r = request(0.9, 40);
  r.prompt = some_tokens(200, 7);
  for (const Speculation& speculation : {kOff, drafts(2)}) {
    r.speculation = speculation;
    const auto cold = text(r, {.prefix_cache = false});
    Engine engine(model_, {});
    const auto first = submit(engine, r);
    finish(engine);
    const auto second = submit(engine, r);
    finish(engine);
    Request longer = r;  // on from a prompt that is known in part
    longer.prompt.resize(150);
    const auto third = submit(engine, longer);
    finish(engine);
    EXPECT_EQ(first->texts[0], cold);
    EXPECT_EQ(second->texts[0], cold);
    EXPECT_EQ(third->texts[0], text(longer, {.prefix_cache = false}));
    EXPECT_EQ(first->ends[0].stats.cached_tokens, 0);
    EXPECT_EQ(second->ends[0].stats.cached_tokens, 192);
    EXPECT_EQ(third->ends[0].stats.cached_tokens, 128);
    EXPECT_EQ(engine.stats().cached_tokens, 320);
    EXPECT_NEAR(engine.stats().hit_rate(), 320.0 / 550, 1e-12);
    EXPECT_EQ(engine.stats().prompt_tokens_run, 550 - 320);
  }
}

TEST_F(EngineTest, salts_keep_pages_apart_and_generated_ones_are_kept_only_when_asked_for) {
  Request r = request(0, 130);
  r.prompt = some_tokens(70, 8);
  for (const bool reuse : {false, true}) {
    Engine engine(model_, {.reuse_generated = reuse});
    const auto first = submit(engine, r);
    finish(engine);
    Request next = r;
    next.prompt.insert(next.prompt.end(), first->texts[0].begin(), first->texts[0].end());
    next.max_tokens = 2;
    const auto second = submit(engine, next);
    finish(engine);
    EXPECT_EQ(second->ends[0].stats.cached_tokens, reuse ? 192 : 64);
    next.salt = "another";
    const auto third = submit(engine, next);
    finish(engine);
    EXPECT_EQ(third->ends[0].stats.cached_tokens, 0);
  }
}

TEST_F(EngineTest, samples_share_the_pages_of_their_prompt) {
  Request r = request(1, 20);
  r.prompt = some_tokens(200, 9);
  r.samples = 5;
  EngineStats stats;
  Engine engine(model_, {});
  const auto out = submit(engine, r);
  for (bool more = true; more; more = engine.step()) {
    stats.pages_in_use = std::max(stats.pages_in_use, engine.stats().pages_in_use);
  }
  EXPECT_EQ(engine.stats().prompt_tokens_run, 200 + 4 * 8);
  EXPECT_EQ(stats.pages_in_use, 3 + 5);
  for (int64_t i = 0; i < 5; ++i) {
    Request one = r;
    one.samples = 1;
    one.sampling.seed += uint64_t(i);
    EXPECT_EQ(out->texts[size_t(i)], text(one)) << "sample " << i;
  }
}

TEST_F(EngineTest, ends_at_an_end_token_and_counts_what_it_did) {
  Request r = request(0, 50);
  const auto tokens = text(r);
  r.end_tokens = {39, tokens[5]};
  const Written cut = run(r);
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[5]) - tokens.begin();
  EXPECT_EQ(cut.texts[0], Tokens(tokens.begin(), tokens.begin() + first));
  EXPECT_EQ(cut.ends[0].finish, Finish::kEnd);
  EXPECT_EQ(cut.ends[0].stats.tokens, first);
  EXPECT_EQ(cut.ends[0].stats.prompt_tokens, 8);
}

TEST_F(EngineTest, fills_the_context_and_no_more) {
  Request r = request(0, 10'000);
  for (const Speculation& speculation : {kOff, drafts(3)}) {
    r.speculation = speculation;
    const Written out = run(r);
    EXPECT_EQ(out.texts[0].size(), 320u - 8 + 1);  // the last token needs no position of its own
    EXPECT_EQ(out.ends[0].finish, Finish::kLength);
  }
}

TEST_F(EngineTest, the_caller_can_end_a_text) {
  Request r = request(0, 50);
  int seen = 0;
  r.on_token = [&](const NewToken&) { return ++seen < 7; };
  const Written out = run(r);
  EXPECT_EQ(out.texts[0].size(), 7u);
  EXPECT_EQ(out.ends[0].finish, Finish::kStopped);

  r.on_token = [](const NewToken&) -> bool { throw Error(ErrorKind::kIo, "the disk is full"); };
  const Written failed = run(r);
  EXPECT_EQ(failed.ends[0].finish, Finish::kError);
  EXPECT_STREQ(failed.ends[0].error->what(), "the disk is full");
}

TEST_F(EngineTest, logprobs_are_those_of_the_whole_text_as_a_prompt) {
  Request r = request(0, 12);
  r.prompt = some_tokens(80, 12);
  r.logprobs = 3;
  r.prompt_logprobs = 2;
  r.sampling.logit_bias = {{17, 5}};  // changes what is drawn, not what is reported
  const Written out =
      run(r, {.cache_dtype = DType::kF32, .prompt_chunk = 33, .lone_prompt_chunk = 33});
  ASSERT_EQ(out.logprobs[0].size(), 12u);
  ASSERT_EQ(out.of_prompt.size(), 79u);
  Tokens all = r.prompt;
  all.insert(all.end(), out.texts[0].begin(), out.texts[0].end());
  Matrix logits({int64_t(all.size()), 40});
  model_.logits({all.data(), {int64_t(all.size())}}, Precision::kFp32, logits);
  for (size_t i = 1; i < all.size(); ++i) {
    const float* row = logits.row(int64_t(i) - 1);
    double sum = 0;
    for (int v = 0; v < 40; ++v) sum += std::exp(double(row[v]));
    const Logprobs& got = i < 80 ? out.of_prompt[i - 1] : out.logprobs[0][i - 80];
    EXPECT_EQ(got.token.id, all[i]);
    EXPECT_NEAR(got.token.logprob, row[all[i]] - std::log(sum), 1e-4);
    ASSERT_EQ(got.top.size(), i < 80 ? 2u : 3u);
    EXPECT_GE(got.top[0].logprob, got.top[1].logprob);
    EXPECT_NEAR(got.top[0].logprob, *std::max_element(row, row + 40) - std::log(sum), 1e-4);
    for (const TokenLogprob& t : got.top) {
      EXPECT_TRUE(t.id != all[i] || t.logprob == got.token.logprob);
    }
  }
}

TEST_F(EngineTest, a_text_that_is_not_a_number_ends_and_the_others_go_on) {
  auto requests = mixture(6);
  for (Request& r : requests) r.vocabulary = 39;  // nobody draws the broken token
  const auto sound = together(requests, {});
  Param* embedding = model_.params().find("model.embed_tokens.weight");
  ASSERT_NE(embedding, nullptr);
  static_cast<float*>(embedding->value)[39 * 32] = std::numeric_limits<float>::quiet_NaN();
  for (const size_t at : {0, 5}) {
    Engine engine(model_, {});
    std::vector<std::shared_ptr<Written>> written;
    for (const Request& r : requests) written.push_back(submit(engine, r));
    Request bad = request(1, 20);
    bad.prompt[at] = 39;
    const auto broken = submit(engine, bad);
    finish(engine);
    EXPECT_EQ(broken->ends[0].finish, Finish::kError);
    ASSERT_TRUE(broken->ends[0].error);
    EXPECT_NE(std::string(broken->ends[0].error->what()).find("NaN"), std::string::npos);
    for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(written[i]->texts[0], sound[i]);
  }
}

TEST_F(EngineTest, refuses_impossible_requests) {
  Engine engine(model_, {.cache_tokens = 128});
  const auto with = [&](auto&& change) {
    Request r = request(1, 5);
    change(r);
    engine.submit(r);
  };
  EXPECT_ERROR(with([](Request& r) { r.prompt.clear(); }), kUsage, "prompt is empty");
  EXPECT_ERROR(with([](Request& r) { r.prompt = {0, 40}; }), kUsage, "token id 40");
  EXPECT_ERROR(with([](Request& r) { r.prompt = {-1}; }), kUsage, "token id -1");
  EXPECT_ERROR(with([](Request& r) { r.prompt.assign(320, 1); }), kUsage, "320 tokens");
  EXPECT_ERROR(with([](Request& r) { r.prompt.assign(150, 1); }), kResource, "3 pages of cache");
  EXPECT_ERROR(with([](Request& r) { r.max_tokens = 125; }), kResource, "3 pages of cache");
  EXPECT_ERROR(with([](Request& r) { r.max_tokens = -1; }), kUsage, "max_tokens -1");
  EXPECT_ERROR(with([](Request& r) { r.samples = 0; }), kUsage, "samples 0");
  EXPECT_ERROR(with([](Request& r) { r.samples = 1'000'000; }), kUsage, "samples 1000000");
  EXPECT_ERROR(with([](Request& r) { r.sampling.temperature = -1; }), kUsage, "temperature -1");
  EXPECT_ERROR(with([](Request& r) { r.sampling.logit_bias = {{40, 1}}; }), kUsage, "token 40");
  EXPECT_ERROR(with([](Request& r) { r.speculation = drafts(1000); }), kUsage, "drafts 1000");
  EXPECT_ERROR(with([](Request& r) { r.logprobs = 1'000'000; }), kUsage, "logprobs 1000000");
  with([](Request&) {});
  finish(engine);
  EXPECT_EQ(engine.stats().ended[size_t(Finish::kLength)], 1);
}

}  // namespace
}  // namespace hadal
