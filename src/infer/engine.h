#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <vector>

#include "infer/draft_controller.h"
#include "infer/prefix_cache.h"
#include "infer/row_batch.h"
#include "infer/scheduler.h"

namespace hadal {

struct EngineOptions {
  DType cache_dtype = DType::kBF16;
  std::optional<Precision> precision = {};  // of prompts' products; without: prompt_precision()
  int64_t cache_tokens = 0;                 // the cache's limit, in whole pages; 0: none
  int64_t prompt_chunk = kPromptChunk;      // rows of prompts in a step
  // The same while nobody waits for the step's end: only prompts, and all of one caller.
  int64_t lone_prompt_chunk = kLonePromptChunk;
  int64_t max_running = 64;  // texts that have a place in the cache at a time
  bool prefix_cache = true;
  // Drafts are guessed among so many tokens, those of the lowest ids: a vocabulary learnt by
  // merging numbers its tokens by how often they were met. The model's head then reads less for a
  // draft, and a guess that it lacks is a wrong one. 0: all.
  int64_t draft_vocabulary = 0;
  // The prefix cache takes generated pages too, for conversations of many turns. They are not the
  // bits that a prompt of the same tokens gives: a later text may then differ in its last bits.
  bool reuse_generated = false;
};

// Since the engine began, but for the first four.
struct EngineStats {
  int64_t running = 0, waiting = 0;  // texts
  int64_t pages_in_use = 0, prefix_pages = 0;
  int64_t steps = 0, preemptions = 0;
  int64_t prompt_tokens = 0;      // asked for; of each sample
  int64_t cached_tokens = 0;      // of these, saved by the prefix cache
  int64_t prompt_tokens_run = 0;  // what is left, and what preemptions cost
  int64_t replayed_tokens = 0;    // generated tokens run again after a preemption
  int64_t generated_tokens = 0;   // handed out
  int64_t drafted = 0, accepted = 0;
  std::array<int64_t, 5> ended{};  // texts, by Finish
  double hit_rate() const {
    return prompt_tokens == 0 ? 0 : double(cached_tokens) / double(prompt_tokens);
  }
};

// Writes many texts at a time. One thread runs step() (or run()); submit, cancel and stats may be
// called from any. The same request gives the same tokens alone and beside others, for any number
// of threads, with and without pages from the prefix cache, with and without drafts, before and
// after a preemption: which kernels a row takes depends only on whether it belongs to the prompt or
// was generated, and its bits on its own text alone.
class Engine {
 public:
  using RequestId = int64_t;

  explicit Engine(Transformer& model, const EngineOptions& options = {});
  explicit Engine(std::unique_ptr<ServedModel> model, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Error{kUsage} names what is impossible; Error{kResource} if the cache cannot hold one text.
  RequestId submit(Request request);
  // Its texts end with kCancelled, unless they have ended.
  void cancel(RequestId id);
  EngineStats stats() const;

  // One step; false when nothing is left to do.
  bool step();
  // Steps while there is work and waits while there is none, until asked to stop. What is
  // unfinished then stays where it is.
  void run(const std::stop_token& stop);

 private:
  using Clock = std::chrono::steady_clock;
  struct Job {
    RequestId id = 0;
    Request request;
    Clock::time_point submitted;
    bool first_in_prompt = false;  // the other samples wait for the pages of the first
  };
  struct Member : Text {
    int64_t id = 0, sample = 0, caller = 0;
    std::shared_ptr<Job> job;
    bool with_module = false;  // its pages hold the rows of the MTP module as well
    std::string tree;          // of the prefix cache
    bool running = false, decoding = false;
    SampleStats stats;
    Clock::time_point since;  // the phase it is in
  };
  struct Caller {
    int64_t index = 0, texts = 0;
  };

  void check(const Request& request) const;
  void take_inbox();
  void add_texts(const std::shared_ptr<Job>& job);
  std::vector<Entry> entries() const;
  Entry entry_of(const Member& m) const;
  ScheduleLimits limits() const;
  void admit(Member& m);
  void preempt(Member& m);
  void move_to(Member& m, bool running);
  void make_pages(int64_t pages);
  void choose_drafts();
  void stop_drafting(Member& m);
  int64_t room_for_drafts(const Member& m) const;
  void run_prompts(const std::vector<Share>& shares);
  void run_decode(const Plan& plan);
  void run_apart(std::span<Text* const> ready, std::span<const TextRows> replay);
  void catch_up(Member& m);
  void read_behind(std::span<Member* const> members);
  void time_drafts(const Plan& plan, double elapsed);
  void after_prompt(Member& m);
  void hand_out(Member& m);
  bool hand_out_one(Member& m, size_t place);
  void remember_pages(const Member& m, int64_t tokens);
  void end(Member& m, Finish finish, std::optional<Error> error = {});
  void publish();

  std::unique_ptr<ServedModel> model_;
  EngineOptions options_;
  KvCache cache_;
  PrefixCache prefix_;
  RowBatch batch_;
  DraftControllers controllers_;
  std::map<int64_t, std::unique_ptr<Member>> members_;
  std::map<int64_t, Member*> running_;            // by id
  std::map<int64_t, std::set<int64_t>> waiting_;  // by caller: ids, oldest first
  std::map<std::string, Caller> callers_;
  int64_t next_member_ = 0, next_caller_ = 0;
  EngineStats now_;  // the engine thread's

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable_any wake_;
  std::vector<std::shared_ptr<Job>> inbox_;
  std::vector<RequestId> cancelled_;
  RequestId next_request_ = 0;
  EngineStats published_;
};

}  // namespace hadal
