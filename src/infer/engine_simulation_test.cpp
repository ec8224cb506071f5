// Ten thousand texts at random through a stand-in model.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

#include "infer/engine.h"
#include "tests/support/stand_in_model.h"

namespace hadal {
namespace {

using Tokens = std::vector<int32_t>;

Tokens expected(Tokens tokens, int64_t count) {
  const auto prompt = tokens.size();
  while (tokens.size() < prompt + static_cast<size_t>(count)) {
    const auto window = std::min<size_t>(tokens.size(), StandInModel::kWindow);
    int64_t sum = 0;
    for (size_t i = tokens.size() - window; i < tokens.size(); ++i) sum += tokens[i];
    tokens.push_back(StandInModel::next_of(tokens.back(), sum));
  }
  return {tokens.begin() + static_cast<int64_t>(prompt), tokens.end()};
}

struct Record {
  Request request;
  Tokens text;
  int ends = 0;
  SampleEnd end;
};

class Simulation {
 public:
  Simulation(uint64_t seed, const EngineOptions& options)
      : rng_(seed), engine_(std::make_unique<StandInModel>(), options) {}

  void run(int64_t requests) {
    int64_t idle_steps = 0;
    while (static_cast<int64_t>(records_.size()) < requests) {
      // Bursts and lulls.
      const int64_t arrivals = rng_.below(20) == 0 ? rng_.below(40) : rng_.below(2);
      for (int64_t i = 0; i < arrivals; ++i) arrive();
      if (rng_.below(6) == 0 && !ids_.empty()) {
        engine_.cancel(ids_[static_cast<size_t>(rng_.below(static_cast<int64_t>(ids_.size())))]);
      }
      engine_.step();
    }
    while (engine_.step()) ASSERT_LT(++idle_steps, 2'000'000) << "stuck";
  }

  void check() {
    for (const auto& r : records_) {
      ASSERT_EQ(r->ends, 1) << "lost or ended twice";
      const auto size = static_cast<int64_t>(r->text.size());
      ASSERT_EQ(r->text, expected(r->request.prompt, size));
      if (r->end.finish == Finish::kLength) {
        ASSERT_EQ(size, r->request.max_tokens);
      } else {
        ASSERT_EQ(r->end.finish, Finish::kCancelled) << r->end.error->what();
      }
    }
    const EngineStats s = engine_.stats();
    EXPECT_EQ(s.running + s.waiting, 0);
    EXPECT_EQ(s.pages_in_use, s.prefix_pages) << "a page leaked";
    EXPECT_EQ(s.ended[size_t(Finish::kLength)] + s.ended[size_t(Finish::kCancelled)],
              static_cast<int64_t>(records_.size()));
    EXPECT_GT(s.ended[size_t(Finish::kCancelled)], 50);
    EXPECT_GT(s.preemptions, 50);
    EXPECT_GT(s.accepted, 1000);
    EXPECT_GT(s.drafted, s.accepted);
  }
  const Engine& engine() const { return engine_; }

 private:
  void arrive() {
    auto record = std::make_unique<Record>();
    Record* r = record.get();
    Request& q = r->request;
    Rng family(static_cast<uint64_t>(rng_.below(8)), 77);  // prompts begin alike
    const int64_t alike = rng_.below(170), own = 1 + rng_.below(40);
    for (int64_t i = 0; i < alike; ++i)
      q.prompt.push_back(int32_t(family.below(StandInModel::kVocabulary)));
    for (int64_t i = 0; i < own; ++i)
      q.prompt.push_back(int32_t(rng_.below(StandInModel::kVocabulary)));
    q.max_tokens = rng_.below(4) == 0 ? rng_.below(300) : rng_.below(20);
    q.sampling.temperature = 0;
    q.caller = str(rng_.below(5));
    q.salt = str(rng_.below(2));
    const int64_t kind = rng_.below(3);
    if (kind == 0) q.speculation = {Speculation::Mode::kOff, 0};
    if (kind == 1) q.speculation = {Speculation::Mode::kFixed, 1 + rng_.below(3)};
    q.on_token = [r](const NewToken& t) {
      r->text.push_back(t.id);
      return true;
    };
    q.on_end = [r](const SampleEnd& e) {
      ++r->ends;
      r->end = e;
    };
    ids_.push_back(engine_.submit(q));
    records_.push_back(std::move(record));
  }

  Rng rng_;
  Engine engine_;
  std::vector<std::unique_ptr<Record>> records_;
  std::vector<Engine::RequestId> ids_;
};

TEST(engine_simulation, ten_thousand_texts_and_nothing_is_lost) {
  Simulation simulation(1, {.cache_dtype = DType::kF32,
                            .cache_tokens = 24 * KvCache::kPageTokens,
                            .prompt_chunk = 128,
                            .max_running = 24});
  simulation.run(10'000);
  simulation.check();
  EXPECT_GT(simulation.engine().stats().hit_rate(), 0.05);
}

TEST(engine_simulation, the_same_without_a_prefix_cache_and_with_generated_pages_in_it) {
  for (const bool reuse : {false, true}) {
    Simulation simulation(2, {.cache_dtype = DType::kF32,
                              .cache_tokens = 12 * KvCache::kPageTokens,
                              .prompt_chunk = 50,
                              .max_running = 16,
                              .prefix_cache = reuse,
                              .reuse_generated = reuse});
    simulation.run(1500);
    simulation.check();
  }
}

TEST(engine_simulation, threads_submit_and_cancel_while_it_runs) {
  constexpr int kThreads = 4, kEach = 100;
  Engine engine(std::make_unique<StandInModel>(),
                {.cache_dtype = DType::kF32, .cache_tokens = 12 * KvCache::kPageTokens});
  std::atomic<int> ended{0}, wrong{0};
  std::jthread runner([&](const std::stop_token& stop) { engine.run(stop); });
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < kThreads; ++t) {
      callers.emplace_back([&, t] {
        for (int i = 0; i < kEach; ++i) {
          Request r;
          r.prompt = {t, i % StandInModel::kVocabulary, 3};
          r.sampling.temperature = 0;
          r.max_tokens = 5 + i;
          r.caller = str(t);
          const auto text = std::make_shared<Tokens>();
          r.on_token = [text](const NewToken& n) {
            text->push_back(n.id);
            return true;
          };
          r.on_end = [&, text, prompt = r.prompt](const SampleEnd&) {
            wrong += *text == expected(prompt, int64_t(text->size())) ? 0 : 1;
            ++ended;
          };
          const auto id = engine.submit(r);
          if (i % 3 == 0) engine.cancel(id);
          EXPECT_LE(engine.stats().pages_in_use, 12);
        }
      });
    }
  }
  for (int i = 0; i < 20'000 && ended < kThreads * kEach; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(ended, kThreads * kEach);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace hadal
