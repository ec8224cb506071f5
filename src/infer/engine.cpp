#include "infer/engine.h"

#include <algorithm>
#include <set>
#include <utility>

#include "model/memory.h"

namespace hadal {
namespace {

static_assert(kLonePromptChunk == kPromptRows, "plan_memory counts the largest chunk");
constexpr int64_t kMostSamples = 4096, kMostDrafts = 16, kMostLogprobs = 100;
constexpr int64_t kLookAhead = 16;    // waiting texts of a caller that a step considers
constexpr int64_t kMostPending = 64;  // rows that an MTP module falls behind

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

// What a text ends with when the model or a callback threw this.
Error as_error(const std::exception& e) {
  if (const auto* known = dynamic_cast<const Error*>(&e)) return *known;
  const bool memory = dynamic_cast<const std::bad_alloc*>(&e) != nullptr;
  return {memory ? ErrorKind::kResource : ErrorKind::kInternal, e.what()};
}

}  // namespace

Engine::Engine(Transformer& model, const EngineOptions& options)
    : Engine(std::make_unique<ServedTransformer>(model), options) {
}

Engine::Engine(std::unique_ptr<ServedModel> model, const EngineOptions& options)
    : model_(std::move(model)),
      options_(options),
      cache_(model_->cache_specs(), options.cache_dtype, options.cache_tokens),
      prefix_(cache_),
      batch_(*model_, cache_, options.precision.value_or(model_->prompt_precision()),
             options.draft_vocabulary) {
  HADAL_CHECK(options.prompt_chunk >= 1, kUsage, "prompt chunk ", options.prompt_chunk,
              ", expected at least 1");
  HADAL_CHECK(options.lone_prompt_chunk >= options.prompt_chunk, kUsage, "a lone prompt's chunk ",
              options.lone_prompt_chunk, ", expected at least a prompt's chunk, ",
              options.prompt_chunk);
  HADAL_CHECK(options.draft_vocabulary >= 0, kUsage, "a draft vocabulary of ",
              options.draft_vocabulary, " tokens is negative");
  HADAL_CHECK(options.max_running >= 1, kUsage, "at most ", options.max_running,
              " texts at a time, expected at least 1");
}

Engine::~Engine() = default;

// ---- from any thread

Engine::RequestId Engine::submit(Request request) {
  check(request);
  auto job = std::make_shared<Job>();
  job->request = std::move(request);
  job->submitted = Clock::now();
  const std::lock_guard lock(mutex_);
  job->id = next_request_++;
  inbox_.push_back(job);
  wake_.notify_all();
  return job->id;
}

void Engine::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
  wake_.notify_all();
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  return published_;
}

void Engine::check(const Request& r) const {
  const ModelConfig& config = model_->config();
  const auto length = static_cast<int64_t>(r.prompt.size());
  const int64_t context = config.max_position_embeddings;
  check_sampling(r.sampling);
  HADAL_CHECK(length > 0, kUsage, "the prompt is empty; expected at least one token");
  HADAL_CHECK(length < context, kUsage, "the prompt has ", length,
              " tokens; the model's context holds ", context);
  for (int32_t id : r.prompt) {
    HADAL_CHECK(id >= 0 && id < config.vocab_size, kUsage, "token id ", id,
                " is outside the vocabulary of ", config.vocab_size);
  }
  for (const LogitBias& b : r.sampling.logit_bias) {
    HADAL_CHECK(b.id < config.vocab_size, kUsage, "logit bias of token ", b.id,
                ", outside the vocabulary of ", config.vocab_size);
  }
  const auto in_range = [](const char* name, int64_t value, int64_t least, int64_t most) {
    HADAL_CHECK(value >= least && value <= most, kUsage, name, " ", value, " is not between ",
                least, " and ", most);
  };
  in_range("max_tokens", r.max_tokens, 0, int64_t{1} << 40);
  in_range("samples", r.samples, 1, kMostSamples);
  in_range("vocabulary", r.vocabulary, 0, config.vocab_size);
  in_range("logprobs", r.logprobs, -1, kMostLogprobs);
  in_range("prompt logprobs", r.prompt_logprobs, -1, kMostLogprobs);
  if (r.speculation.mode == Speculation::Mode::kFixed) {
    in_range("drafts", r.speculation.draft, 1, kMostDrafts);
  }
  const int64_t tokens = std::min(length + std::max<int64_t>(r.max_tokens, 1), context);
  HADAL_CHECK(KvCache::pages_for(tokens) <= cache_.max_pages(), kResource, "a prompt of ", length,
              " tokens with ", r.max_tokens, " to come needs ", KvCache::pages_for(tokens),
              " pages of cache; there are ", cache_.max_pages());
}

// ---- the engine's thread

void Engine::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (step()) continue;
    std::unique_lock lock(mutex_);
    wake_.wait(lock, stop, [&] { return !inbox_.empty() || !cancelled_.empty(); });
  }
}

bool Engine::step() {
  take_inbox();
  if (!members_.empty()) {
    choose_drafts();
    const Plan plan = schedule(entries(), limits());
    for (int64_t id : plan.preempt) preempt(*members_.at(id));
    for (int64_t id : plan.admit) admit(*members_.at(id));
    run_decode(plan);
    run_prompts(plan.prompt);
    ++now_.steps;
  }
  publish();
  return !members_.empty();
}

void Engine::take_inbox() {
  std::vector<std::shared_ptr<Job>> jobs;
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    jobs.swap(inbox_);
    ids.swap(cancelled_);
  }
  for (const auto& job : jobs) add_texts(job);
  if (ids.empty()) return;
  const std::set<RequestId> cancelled(ids.begin(), ids.end());
  std::vector<Member*> ended;
  for (const auto& [id, m] : members_) {
    if (cancelled.contains(m->job->id)) ended.push_back(m.get());
  }
  for (Member* m : ended) end(*m, Finish::kCancelled);
}

void Engine::add_texts(const std::shared_ptr<Job>& job) {
  const Request& r = job->request;
  job->first_in_prompt = r.samples > 1 && options_.prefix_cache;
  const auto caller = callers_.try_emplace(r.caller, Caller{next_caller_, 0});
  next_caller_ += caller.second ? 1 : 0;
  caller.first->second.texts += r.samples;
  for (int64_t i = 0; i < r.samples; ++i) {
    auto m = std::make_unique<Member>();
    m->request = &r;
    m->sampling = r.sampling;
    m->sampling.seed += static_cast<uint64_t>(i);
    // Whether or not drafts pay just now: prompts' pages are for later texts too.
    m->with_module = r.speculation.mode != Speculation::Mode::kOff && model_->drafts();
    m->drafting = m->with_module;
    // Texts that drafted by another tree's module rows would draft badly: they keep apart.
    m->tree = (m->with_module ? "+" : "-") + r.salt;
    m->wants_prompt_logprobs = r.prompt_logprobs >= 0 && i == 0;
    m->prompt = static_cast<int64_t>(r.prompt.size());
    m->tokens = r.prompt;
    if (r.sampling.penalises()) {
      for (int32_t id : r.prompt) m->counts[id] = 0;
    }
    m->id = next_member_++;
    m->sample = i;
    m->caller = caller.first->second.index;
    m->job = job;
    m->stats.prompt_tokens = m->prompt;
    m->since = job->submitted;
    now_.prompt_tokens += m->prompt;
    waiting_[m->caller].insert(m->id);
    const int64_t id = m->id;
    members_.emplace(id, std::move(m));
  }
}

// ---- what the scheduler sees

std::vector<Entry> Engine::entries() const {
  std::vector<Entry> list;
  for (const auto& [id, m] : running_) list.push_back(entry_of(*m));
  for (const auto& [caller, ids] : waiting_) {
    int64_t seen = 0;
    for (auto id = ids.begin(); id != ids.end() && seen < kLookAhead; ++id, ++seen) {
      list.push_back(entry_of(*members_.at(*id)));
    }
  }
  std::sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) { return a.id < b.id; });
  return list;
}

Entry Engine::entry_of(const Member& m) const {
  Entry e;
  e.id = m.id;
  e.caller = m.caller;
  e.running = m.running;
  e.prompt_left = m.prompt - std::min(m.done, m.prompt);
  e.replay_left = std::max<int64_t>(m.size() - 1 - std::max(m.done, m.prompt), 0);
  e.rows = 1 + m.drafts;
  e.blocked = m.sample > 0 && m.job->first_in_prompt;
  if (m.running) {
    e.length = m.done;
    for (KvCache::Page page : cache_.page_list(m.sequence)) {
      e.own_pages += cache_.holders(page) == (cache_.kept(page) ? 2 : 1) ? 1 : 0;
    }
  } else if (options_.cache_tokens > 0 && !m.wants_prompt_logprobs) {
    const std::span<const int32_t> tokens(m.tokens.data(), static_cast<size_t>(m.prompt - 1));
    for (KvCache::Page page : prefix_.peek(m.tree, tokens)) {
      e.shared_pages += cache_.holders(page) > 1 ? 1 : 0;
    }
  }
  return e;
}

ScheduleLimits Engine::limits() const {
  ScheduleLimits l;
  l.page_tokens = KvCache::kPageTokens;
  l.free_pages = cache_.free_pages() + cache_.idle_pages();
  l.prompt_rows = options_.prompt_chunk;
  l.lone_prompt_rows = options_.lone_prompt_chunk;
  l.max_running = options_.max_running;
  return l;
}

// ---- the cache

void Engine::admit(Member& m) {
  m.sequence = cache_.add_sequence();
  move_to(m, true);
  const auto now = Clock::now();
  if (m.stats.preempted == 0) {
    m.stats.wait_seconds = seconds(now - m.since);
    m.since = now;
  }
  if (!options_.prefix_cache || m.wants_prompt_logprobs) return;
  const std::span<const int32_t> tokens(m.tokens.data(), static_cast<size_t>(m.prompt - 1));
  const auto pages = prefix_.find(m.tree, tokens);
  cache_.attach(m.sequence, pages);
  m.done = m.mtp_done = cache_.length(m.sequence);
  if (m.stats.preempted > 0) return;
  m.stats.cached_tokens = m.done;
  now_.cached_tokens += m.done;
}

// Takes its place in the cache away; its tokens stay known.
void Engine::preempt(Member& m) {
  cache_.remove_sequence(m.sequence);
  move_to(m, false);
  m.done = m.mtp_done = m.drafts = 0;
  m.pending.clear();
  m.of_prompt.clear();
  ++m.stats.preempted;
  ++now_.preemptions;
}

void Engine::move_to(Member& m, bool running) {
  m.running = running;
  if (running) {
    running_.emplace(m.id, &m);
    const auto mine = waiting_.find(m.caller);
    mine->second.erase(m.id);
    if (mine->second.empty()) waiting_.erase(mine);
  } else {
    running_.erase(m.id);
    waiting_[m.caller].insert(m.id);
  }
}

void Engine::make_pages(int64_t pages) {
  if (pages > cache_.free_pages()) prefix_.evict(pages - cache_.free_pages());
}

void Engine::remember_pages(const Member& m, int64_t tokens) {
  if (!options_.prefix_cache) return;
  prefix_.insert(m.tree, {m.tokens.data(), static_cast<size_t>(tokens)}, m.sequence);
}

// ---- prompts

void Engine::run_prompts(const std::vector<Share>& shares) {
  std::vector<TextRows> parts;
  std::vector<Member*> members;
  int64_t pages = 0;
  for (const Share& s : shares) {
    Member& m = *members_.at(s.id);
    const int64_t rows = std::min(s.rows, m.prompt - m.done);  // less, if pages were found
    parts.push_back({&m, m.done, rows});
    members.push_back(&m);
    pages += KvCache::pages_for(m.done + rows) - KvCache::pages_for(m.done);
    now_.prompt_tokens_run += rows;
  }
  make_pages(pages);
  try {
    batch_.run_prompt(parts);
  } catch (const std::exception&) {  // one at a time, to find whose fault it is
    for (size_t i = 0; i < parts.size(); ++i) {
      try {
        batch_.run_prompt({&parts[i], 1});
      } catch (const std::exception& e) {
        members[i]->error = as_error(e);
      }
    }
  }
  for (Member* m : members) after_prompt(*m);
}

void Engine::after_prompt(Member& m) {
  if (m.error) return end(m, Finish::kError, m.error);
  remember_pages(m, std::min(m.done, m.prompt - 1));
  if (m.in_prompt()) return;
  if (m.sample == 0) m.job->first_in_prompt = false;
  if (m.wants_prompt_logprobs) {
    m.wants_prompt_logprobs = false;
    try {
      if (m.request->on_prompt) m.request->on_prompt(m.of_prompt);
    } catch (const std::exception& e) {
      return end(m, Finish::kError, as_error(e));
    }
  }
  if (m.decoding) return;  // it was preempted and comes back
  m.decoding = true;
  const auto now = Clock::now();
  m.stats.prompt_seconds = seconds(now - m.since);
  m.since = now;
  hand_out(m);
}

// ---- generated tokens

int64_t Engine::room_for_drafts(const Member& m) const {
  return std::max<int64_t>(std::min(m.request->max_tokens - m.stats.tokens - 1,
                                    model_->config().max_position_embeddings - 1 - m.done),
                           0);
}

// For good: the module's rows are missing from here on.
void Engine::stop_drafting(Member& m) {
  m.drafting = false;
  m.drafts = 0;
  m.pending = {};
}

void Engine::choose_drafts() {
  std::vector<Member*> ready;
  for (const auto& [id, m] : running_) {
    m->drafts = 0;
    if (!m->in_prompt() && !m->in_replay()) ready.push_back(m);
  }
  const int64_t chosen = controllers_.next(static_cast<int64_t>(ready.size()));
  // Generated pages that later texts may reuse need the module's rows.
  const bool hopeful = controllers_.hopeful() || options_.reuse_generated;
  for (Member* m : ready) {
    if (!m->drafting) continue;
    const Speculation& wish = m->request->speculation;
    const bool fixed = wish.mode == Speculation::Mode::kFixed;
    if (!fixed && !hopeful) {  // what is not read along costs nothing
      stop_drafting(*m);
    } else {
      m->drafts = std::min(fixed ? wish.draft : chosen, room_for_drafts(*m));
    }
  }
}

void Engine::run_decode(const Plan& plan) {
  std::vector<Member*> members;
  std::vector<Text*> ready;
  std::vector<TextRows> replay;
  int64_t pages = 0;
  const auto count_pages = [&](const Text& t, int64_t rows) {
    pages += KvCache::pages_for(t.done + rows) - KvCache::pages_for(t.done);
  };
  for (int64_t id : plan.decode) {
    members.push_back(members_.at(id).get());
    ready.push_back(members.back());
    count_pages(*ready.back(), 1 + ready.back()->drafts);
  }
  for (const Share& s : plan.replay) {
    members.push_back(members_.at(s.id).get());
    replay.push_back({members.back(), members.back()->done, s.rows});
    count_pages(*members.back(), s.rows);
    now_.replayed_tokens += s.rows;
  }
  if (members.empty()) return;
  make_pages(pages);
  const auto began = Clock::now();
  read_behind(members);
  try {
    batch_.run_generated(ready, replay);
    time_drafts(plan, seconds(Clock::now() - began));
  } catch (const std::exception&) {  // one at a time, to find whose fault it is
    run_apart(ready, replay);
  }
  for (size_t i = 0; i < members.size(); ++i) {
    Member& m = *members[i];
    if (i < ready.size() || m.error) hand_out(m);
  }
}

void Engine::run_apart(std::span<Text* const> ready, std::span<const TextRows> replay) {
  const auto attempt = [](Text& text, auto&& run) {
    try {
      run();
    } catch (const std::exception& e) {
      text.error = as_error(e);
    }
  };
  for (Text* const& t : ready) {
    t->drafts = 0;
    attempt(*t, [&] { batch_.run_generated({&t, 1}, {}); });
  }
  for (const TextRows& r : replay) {
    attempt(*r.text, [&] { batch_.run_generated({}, {&r, 1}); });
  }
}

// After a while without drafts a module has much to read: not what a drafted step costs.
void Engine::catch_up(Member& m) {
  Text* const text = &m;
  try {
    batch_.catch_up({&text, 1});
  } catch (const std::exception&) {  // its drafts are lost, not its text
    stop_drafting(m);
  }
}

void Engine::read_behind(std::span<Member* const> members) {
  for (Member* m : members) {
    const int64_t behind = batch_.pending_rows(*m);
    if (behind >= kMostPending || (m->drafts > 0 && behind > 2 * (m->drafts + 1))) catch_up(*m);
  }
}

// What drafting brought to the texts that leave it to the engine.
void Engine::time_drafts(const Plan& plan, double elapsed) {
  int64_t drafts = 0, fresh = 0;
  for (int64_t id : plan.decode) {
    const Member& m = *members_.at(id);
    if (m.request->speculation.mode != Speculation::Mode::kAuto) continue;
    drafts = std::max(drafts, m.drafts);
    fresh += m.size() - m.prompt - m.stats.tokens;
  }
  if (fresh > 0) {
    controllers_.record(static_cast<int64_t>(plan.decode.size()), drafts, fresh, elapsed);
  }
}

// ---- to the caller

// Hands out the tokens that are new, and ends the text when it is at its end.
void Engine::hand_out(Member& m) {
  for (size_t place = 0; m.prompt + m.stats.tokens < m.size(); ++place) {
    if (!hand_out_one(m, place)) return;
  }
  if (m.error) return end(m, Finish::kError, m.error);
  if (m.stats.tokens >= m.request->max_tokens ||
      m.prompt + m.stats.tokens > model_->config().max_position_embeddings) {
    end(m, Finish::kLength);
  }
}

// False when the text ended.
bool Engine::hand_out_one(Member& m, size_t place) {
  const Request& r = *m.request;
  const int32_t token = m.tokens[static_cast<size_t>(m.prompt + m.stats.tokens)];
  const auto finish = [&](Finish how, std::optional<Error> error = {}) {
    end(m, how, std::move(error));
    return false;
  };
  if (std::find(r.end_tokens.begin(), r.end_tokens.end(), token) != r.end_tokens.end()) {
    return finish(Finish::kEnd);
  }
  if (m.stats.tokens == r.max_tokens) return finish(Finish::kLength);
  ++m.stats.tokens;
  ++now_.generated_tokens;
  if (!r.on_token) return true;
  const Logprobs* logprobs = place < m.logprobs.size() ? &m.logprobs[place] : nullptr;
  try {
    return r.on_token({m.sample, token, logprobs}) || finish(Finish::kStopped);
  } catch (const std::exception& e) {
    return finish(Finish::kError, as_error(e));
  }
}

void Engine::end(Member& m, Finish finish, std::optional<Error> error) {
  if (m.running && options_.reuse_generated && finish != Finish::kError) {
    if (batch_.pending_rows(m) > 0) catch_up(m);
    remember_pages(m, m.with_module ? std::min(m.done, m.mtp_done) : m.done);
  }
  if (m.running) {
    cache_.remove_sequence(m.sequence);
  } else {
    move_to(m, true);  // out of those that wait
  }
  running_.erase(m.id);
  if (m.sample == 0) m.job->first_in_prompt = false;
  if (m.decoding) m.stats.decode_seconds = seconds(Clock::now() - m.since);
  m.stats.drafted = m.drafted;
  m.stats.accepted = m.accepted;
  m.stats.steps = m.steps;
  now_.drafted += m.drafted;
  now_.accepted += m.accepted;
  ++now_.ended[static_cast<size_t>(finish)];
  const SampleEnd result{m.sample, finish, std::move(error), m.stats};
  const std::shared_ptr<Job> job = m.job;
  const auto caller = callers_.find(job->request.caller);
  if (--caller->second.texts == 0) callers_.erase(caller);
  members_.erase(m.id);
  if (job->request.on_end) job->request.on_end(result);
}

void Engine::publish() {
  now_.running = static_cast<int64_t>(running_.size());
  now_.waiting = static_cast<int64_t>(members_.size() - running_.size());
  now_.pages_in_use = cache_.pages_in_use();
  now_.prefix_pages = prefix_.pages();
  const std::lock_guard lock(mutex_);
  published_ = now_;
}

const char* finish_name(Finish finish) {
  constexpr std::array<const char*, 5> kNames{"stop", "stop", "length", "cancelled", "error"};
  return kNames[static_cast<size_t>(finish)];
}

}  // namespace hadal
