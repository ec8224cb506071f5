#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace hadal {

// One text as the scheduler sees it. Ids grow with age: the smaller came first.
struct Entry {
  int64_t id = 0;
  int64_t caller = 0;
  bool running = false;      // has a place in the cache
  int64_t length = 0;        // tokens in the cache
  int64_t prompt_left = 0;   // tokens of the prompt to run
  int64_t replay_left = 0;   // then generated tokens to run again, after a preemption
  int64_t rows = 1;          // then rows of a decode step: the newest token and drafts
  int64_t own_pages = 0;     // running: what preempting it gives back
  int64_t shared_pages = 0;  // waiting: pages of its beginning that running texts hold anyway
  bool blocked = false;      // not to be admitted yet
};

// Rows of prompts in a step: enough that each expert of a large model gets some, few enough to wait
// for; and where nobody waits, so many that experts' weights and the cache's expansion pay.
constexpr int64_t kPromptChunk = 512, kLonePromptChunk = 2048;

struct ScheduleLimits {
  int64_t page_tokens = 64;
  int64_t free_pages = 0;  // that can be had without preempting anybody
  int64_t prompt_rows = kPromptChunk;
  int64_t lone_prompt_rows = kLonePromptChunk;
  int64_t replay_rows = 64;
  int64_t max_running = 64;
};

struct Share {
  int64_t id = 0, rows = 0;
  bool operator==(const Share&) const = default;
};
// What one step does, in this order.
struct Plan {
  std::vector<int64_t> preempt, admit, decode;
  std::vector<Share> replay, prompt;
};

// Who runs in the next step; a pure function.
// - Every text past its prompt decodes in every step; beside it at most prompt_rows of prompts and
//   replay_rows of replays run, so that a token never waits for longer than one chunk. While all
//   texts are one caller's and none is past its prompt, lone_prompt_rows run.
// - Callers with prompts share prompt_rows equally, what one does not need going to the others; of
//   waiting texts the caller with the fewest running ones is served first, of one caller's the
//   oldest.
// - A text is admitted when its whole prompt fits beside what is promised to the others. Running
//   ones grow page by page; when no page is left the youngest is preempted, so the oldest always
//   gets on, and any text that fits the cache alone ends at last.
// Entries are in the order of their ids.
Plan schedule(std::span<const Entry> entries, const ScheduleLimits& limits);

}  // namespace hadal
