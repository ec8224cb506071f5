#include "infer/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hadal {
namespace {

using IdList = std::vector<int64_t>;
using Shares = std::vector<Share>;

struct Case {
  const char* name;
  std::vector<Entry> entries;
  ScheduleLimits limits;
  IdList preempt, admit, decode;
  Shares replay, prompt;
};

Entry waiting(int64_t id, int64_t caller, int64_t prompt, int64_t replay = 0) {
  return {.id = id, .caller = caller, .prompt_left = prompt, .replay_left = replay};
}
Entry in_prompt(int64_t id, int64_t caller, int64_t length, int64_t left) {
  return {.id = id,
          .caller = caller,
          .running = true,
          .length = length,
          .prompt_left = left,
          .own_pages = (length + 9) / 10};
}
Entry decoding(int64_t id, int64_t length, int64_t rows = 1) {
  return {
      .id = id, .running = true, .length = length, .rows = rows, .own_pages = (length + 9) / 10};
}
Entry replaying(int64_t id, int64_t length, int64_t left) {
  return {.id = id,
          .running = true,
          .length = length,
          .replay_left = left,
          .own_pages = (length + 9) / 10};
}
Entry with_blocked(Entry e) {
  e.blocked = true;
  return e;
}
Entry with_shared(Entry e, int64_t pages) {
  e.shared_pages = pages;
  return e;
}

ScheduleLimits limits(int64_t free, int64_t prompt_rows = 100, int64_t max_running = 8,
                      int64_t lone_prompt_rows = 0) {
  return {.page_tokens = 10,
          .free_pages = free,
          .prompt_rows = prompt_rows,
          .lone_prompt_rows = std::max(prompt_rows, lone_prompt_rows),
          .replay_rows = 20,
          .max_running = max_running};
}

const std::vector<Case>& cases() {
  static const std::vector<Case> list{
      {"nothing_to_do", {}, limits(5), {}, {}, {}, {}, {}},
      {"a_new_prompt_starts_at_once", {waiting(1, 0, 30)}, limits(5), {}, {1}, {}, {}, {{1, 30}}},
      {"a_long_prompt_goes_in_chunks",
       {in_prompt(1, 0, 100, 400)},
       limits(99),
       {},
       {},
       {},
       {},
       {{1, 100}}},
      {"alone_in_longer_chunks",
       {in_prompt(1, 0, 100, 400)},
       limits(99, 100, 8, 250),
       {},
       {},
       {},
       {},
       {{1, 250}}},
      {"one_callers_prompts_share_a_longer_chunk",
       {in_prompt(1, 0, 100, 60), waiting(2, 0, 400)},
       limits(99, 100, 8, 250),
       {},
       {2},
       {},
       {},
       {{1, 60}, {2, 190}}},
      {"not_beside_a_text_that_decodes",
       {decoding(1, 12), in_prompt(2, 0, 100, 400)},
       limits(99, 100, 8, 250),
       {},
       {},
       {1},
       {},
       {{2, 100}}},
      {"not_beside_a_replay",
       {replaying(1, 12, 5), in_prompt(2, 0, 100, 400)},
       limits(99, 100, 8, 250),
       {},
       {},
       {},
       {{1, 5}},
       {{2, 100}}},
      {"not_while_another_caller_waits",
       {in_prompt(1, 0, 100, 400), with_blocked(waiting(2, 1, 30))},
       limits(99, 100, 8, 250),
       {},
       {},
       {},
       {},
       {{1, 100}}},
      {"decode_goes_on_beside_a_prompt",
       {decoding(1, 12), in_prompt(2, 0, 100, 400)},
       limits(99),
       {},
       {},
       {1},
       {},
       {{2, 100}}},
      {"callers_share_the_chunk",
       {in_prompt(1, 0, 0, 400), in_prompt(2, 0, 0, 400), in_prompt(3, 1, 0, 30)},
       limits(99),
       {},
       {},
       {},
       {},
       {{1, 70}, {3, 30}}},
      {"the_caller_with_fewest_texts_is_admitted_first",
       {decoding(1, 5), waiting(2, 0, 10), waiting(3, 0, 10), waiting(4, 7, 10)},
       limits(99, 100, 3),
       {},
       {4, 2},
       {1},
       {},
       {{4, 10}, {2, 10}}},
      {"no_more_than_max_running",
       {decoding(1, 5), decoding(2, 5), waiting(3, 0, 10)},
       limits(99, 100, 2),
       {},
       {},
       {1, 2},
       {},
       {}},
      {"a_prompt_that_does_not_fit_waits",
       {decoding(1, 15), waiting(2, 0, 40)},
       limits(5),
       {},
       {},
       {1},
       {},
       {}},
      {"and_starts_when_it_does",
       {decoding(1, 15), waiting(2, 0, 40)},
       limits(6),
       {},
       {2},
       {1},
       {},
       {{2, 40}}},
      {"shared_pages_need_no_room",
       {decoding(1, 35), with_shared(waiting(2, 0, 40), 3)},
       limits(3),
       {},
       {2},
       {1},
       {},
       {{2, 40}}},
      {"what_is_promised_to_a_prompt_is_not_given_away",
       {in_prompt(1, 0, 0, 150), waiting(2, 1, 20)},
       limits(17),
       {},
       {},
       {},
       {},
       {{1, 100}}},
      {"the_youngest_makes_room",
       {decoding(1, 10), decoding(2, 15), decoding(3, 25)},
       limits(0),
       {3},
       {},
       {1, 2},
       {},
       {}},
      {"the_youngest_steps_back_itself",
       {decoding(1, 15), decoding(2, 20)},
       limits(0),
       {2},
       {},
       {1},
       {},
       {}},
      {"as_many_as_it_takes",
       {in_prompt(1, 0, 0, 60), decoding(2, 10), decoding(3, 8), decoding(4, 17)},
       limits(2),
       {4, 3, 2},
       {},
       {},
       {},
       {{1, 60}}},
      {"nobody_is_admitted_while_one_is_preempted",
       {decoding(1, 10), decoding(2, 25), waiting(3, 0, 1)},
       limits(0),
       {2},
       {},
       {1},
       {},
       {}},
      {"drafts_need_room_too",
       {decoding(1, 18, 3), decoding(2, 12)},
       limits(0),
       {2},
       {},
       {1},
       {},
       {}},
      {"replay_goes_in_pieces_beside_the_rest",
       {decoding(1, 11), replaying(2, 30, 15), replaying(3, 30, 15)},
       limits(99),
       {},
       {},
       {1},
       {{2, 15}, {3, 5}},
       {}},
      {"a_preempted_text_comes_back_when_all_of_it_fits",
       {decoding(1, 11), waiting(2, 0, 20, 25)},
       limits(6),
       {},
       {2},
       {1},
       {},
       {{2, 20}}},
      {"and_not_before", {decoding(1, 11), waiting(2, 0, 20, 25)}, limits(5), {}, {}, {1}, {}, {}},
      {"the_blocked_wait",
       {with_blocked(waiting(1, 0, 5)), waiting(2, 0, 5)},
       limits(9),
       {},
       {2},
       {},
       {},
       {{2, 5}}},
  };
  return list;
}

class SchedulerTest : public testing::TestWithParam<Case> {};

TEST_P(SchedulerTest, plans) {
  const Case& c = GetParam();
  const Plan plan = schedule(c.entries, c.limits);
  EXPECT_EQ(plan.preempt, c.preempt);
  EXPECT_EQ(plan.admit, c.admit);
  EXPECT_EQ(plan.decode, c.decode);
  EXPECT_EQ(plan.replay, c.replay);
  EXPECT_EQ(plan.prompt, c.prompt);
}

INSTANTIATE_TEST_SUITE_P(cases, SchedulerTest, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace hadal
