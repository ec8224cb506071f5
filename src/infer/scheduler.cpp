#include "infer/scheduler.h"

#include <algorithm>
#include <map>

namespace hadal {
namespace {

class Step {
 public:
  Step(std::span<const Entry> entries, const ScheduleLimits& limits)
      : entries_(entries), limits_(limits), free_(limits.free_pages) {}

  Plan plan() {
    for (const Entry& e : entries_) {
      if (e.running) running_.push_back(&e);
    }
    prompt_rows_ = nobody_waits() ? limits_.lone_prompt_rows : limits_.prompt_rows;
    share_prompt_rows();
    for (size_t i = 0; i < running_.size(); ++i) run(*running_[i]);  // running_ may shrink
    if (plan_.preempt.empty()) admit_waiting();
    return std::move(plan_);
  }

 private:
  int64_t pages(int64_t tokens) const {
    return (tokens + limits_.page_tokens - 1) / limits_.page_tokens;
  }
  int64_t growth(const Entry& e, int64_t rows) const {
    return pages(e.length + rows) - pages(e.length);
  }

  // Neither another caller for its turn nor a text for its next token.
  bool nobody_waits() const {
    const bool one_caller = std::all_of(entries_.begin(), entries_.end(), [&](const Entry& e) {
      return e.caller == entries_[0].caller;
    });
    return one_caller && std::all_of(running_.begin(), running_.end(),
                                     [](const Entry* e) { return e->prompt_left > 0; });
  }

  // Equal parts for the callers, oldest texts first; then the rest to whoever has use for it.
  void share_prompt_rows() {
    std::map<int64_t, int64_t> left;
    for (const Entry* e : running_) {
      if (e->prompt_left > 0) left[e->caller] = 0;
    }
    if (left.empty()) return;
    const auto callers = static_cast<int64_t>(left.size());
    for (auto& part : left) part.second = std::max<int64_t>(prompt_rows_ / callers, 1);
    for (const bool rest : {false, true}) {
      for (const Entry* e : running_) {
        int64_t& rows = rows_[e->id];
        int64_t more = std::min(e->prompt_left - rows, prompt_rows_);
        if (!rest) more = std::min(more, left[e->caller]);
        rows += more;
        prompt_rows_ -= more;
        left[e->caller] -= more;
      }
    }
  }

  void run(const Entry& e) {
    if (e.prompt_left > 0) {
      const int64_t rows = rows_[e.id];
      if (rows > 0 && make_room(e, rows)) plan_.prompt.push_back({e.id, rows});
    } else if (e.replay_left > 0) {
      const int64_t rows = std::min(e.replay_left, limits_.replay_rows - replay_rows_);
      if (rows == 0 || !make_room(e, rows)) return;
      plan_.replay.push_back({e.id, rows});
      replay_rows_ += rows;
    } else if (make_room(e, e.rows)) {
      plan_.decode.push_back(e.id);
    }
  }

  // Takes the pages for so many rows, if need be from the youngest; false if that is e itself.
  bool make_room(const Entry& e, int64_t rows) {
    const int64_t need = growth(e, rows);
    while (need > free_) {
      const Entry* youngest = running_.back();
      running_.pop_back();
      plan_.preempt.push_back(youngest->id);
      free_ += youngest->own_pages;
      if (youngest == &e) return false;
    }
    free_ -= need;
    return true;
  }

  void admit_waiting() {
    std::map<int64_t, int64_t> texts;  // running ones of each caller
    int64_t promised = 0;
    for (const Entry* e : running_) {
      ++texts[e->caller];
      const int64_t rows = e->prompt_left + e->replay_left;
      promised += rows > 0 ? growth(*e, rows) - growth(*e, taken(*e)) : 1;
    }
    std::vector<const Entry*> waiting;
    for (const Entry& e : entries_) {
      if (!e.running && !e.blocked) waiting.push_back(&e);
    }
    auto count = static_cast<int64_t>(running_.size());
    for (; count < limits_.max_running && !waiting.empty(); ++count) {
      const auto next = std::min_element(waiting.begin(), waiting.end(), [&](auto* a, auto* b) {
        const int64_t x = texts[a->caller], y = texts[b->caller];
        return x != y ? x < y : a->id < b->id;
      });
      const Entry& e = **next;
      const int64_t need = pages(e.prompt_left + e.replay_left + 1) - e.shared_pages;
      if (need + promised > free_) return;
      promised += need;
      plan_.admit.push_back(e.id);
      const int64_t rows = std::min(e.prompt_left, prompt_rows_);
      prompt_rows_ -= rows;
      if (rows > 0) plan_.prompt.push_back({e.id, rows});
      ++texts[e.caller];
      waiting.erase(next);
    }
  }

  int64_t taken(const Entry& e) const {
    for (const auto* list : {&plan_.prompt, &plan_.replay}) {
      for (const Share& s : *list) {
        if (s.id == e.id) return s.rows;
      }
    }
    return 0;
  }

  std::span<const Entry> entries_;
  const ScheduleLimits& limits_;
  int64_t free_;
  int64_t prompt_rows_ = 0, replay_rows_ = 0;
  std::vector<const Entry*> running_;  // oldest first
  std::map<int64_t, int64_t> rows_;    // of prompts, by id
  Plan plan_;
};

}  // namespace

Plan schedule(std::span<const Entry> entries, const ScheduleLimits& limits) {
  return Step(entries, limits).plan();
}

}  // namespace hadal
