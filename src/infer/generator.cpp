#include "infer/generator.h"

#include <algorithm>
#include <chrono>

#include "infer/draft_controller.h"

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

// Tokens are numbered from the prompt's first. Before each step the main model has run tokens
// 0 .. done-1, and tokens 0 .. done are known. Row i of the MTP module joins h_i and token i+1;
// rows 0 .. mtp_done-1 have run, and the h of those that have not are kept in `pending`.
struct Generator::Run {
  Run(Transformer& the_model, const GenerateOptions& the_options, Arena& the_scratch)
      : model(the_model),
        options(the_options),
        scratch(the_scratch),
        cache(model.cache_specs(), options.cache_dtype),
        sequence(cache.add_sequence()),
        vocabulary(options.vocabulary > 0 ? options.vocabulary : model.config().vocab_size),
        hidden(model.config().hidden_size) {}

  // Runs ids at `first` .. through the main model; h [n, hidden].
  void run_main(Path path, std::span<const int32_t> ids, int64_t first, Out2 h) {
    with_pass(path, static_cast<int64_t>(ids.size()), first,
              [&](StepPass& pass) { model.step(view(ids), pass, h); });
  }

  // Rows first .. of the MTP module: next_ids are the tokens one place on.
  void run_mtp(Path path, std::span<const int32_t> next_ids, int64_t first, In2 h_prev, Out2 h) {
    with_pass(path, static_cast<int64_t>(next_ids.size()), first,
              [&](StepPass& pass) { model.mtp_step(0, view(next_ids), h_prev, pass, h); });
  }

  // The token at `position`, drawn from row h.
  int32_t draw(Path path, In2 h, int64_t position) {
    int32_t token = 0;
    with_pass(path, 1, 0, [&](StepPass& pass) {
      const Out2 logits = scratch.floats(1, model.config().vocab_size);
      model.head(h, pass, logits);
      token = sample_token({logits.data(), static_cast<size_t>(logits.dim(1))}, vocabulary,
                           options.sampling, position);
    });
    return token;
  }

  void prefill(std::span<const int32_t> prompt, bool drafting) {
    const auto length = static_cast<int64_t>(prompt.size());
    cache.extend(sequence, length);
    for (int64_t first = 0; first < length; first += options.prompt_chunk) {
      const Arena::Scope scope(scratch);
      const int64_t rows = std::min(options.prompt_chunk, length - first);
      const Out2 h = scratch.floats(rows, hidden), unused = scratch.floats(rows, hidden);
      run_main(Path::kPrompt, prompt.subspan(size_t(first), size_t(rows)), first, h);
      const int64_t mtp_rows =
          std::min(rows, length - 1 - first);  // the last has no next token yet
      if (drafting && mtp_rows > 0) {
        run_mtp(Path::kPrompt, prompt.subspan(size_t(first + 1), size_t(mtp_rows)), first,
                h.rows(0, mtp_rows), unused.rows(0, mtp_rows));
      }
      if (first + rows == length) last_h.assign(h.row(rows - 1), h.row(rows - 1) + hidden);
    }
    done = length;
    tokens.assign(prompt.begin(), prompt.end());
    tokens.push_back(draw(Path::kPrompt, row(last_h), length));
    mtp_done = length - 1;
    if (drafting) pending = last_h;
  }

  int64_t pending_rows() const { return static_cast<int64_t>(pending.size()) / hidden; }

  // Brings the MTP module up to the newest known token.
  void catch_up() {
    const int64_t rows = pending_rows();
    if (rows == 0) return;
    const Arena::Scope scope(scratch);
    const Out2 h = scratch.floats(rows, hidden);
    const std::span<const int32_t> next(tokens.data() + mtp_done + 1, static_cast<size_t>(rows));
    run_mtp(Path::kGenerated, next, mtp_done, In2(pending.data(), {rows, hidden}), h);
    last_mtp.assign(h.row(rows - 1), h.row(rows - 1) + hidden);
    mtp_done += rows;
    pending.clear();
  }

  // One verification: drafts `draft` tokens, runs them with the newest known token, keeps what
  // agrees. Returns the number of new tokens (1 .. draft + 1), appended to `tokens`.
  int64_t step(int64_t draft, bool drafting, GenerateStats& stats) {
    const Arena::Scope scope(scratch);
    std::vector<int32_t> ids{tokens.back()};
    if (draft > 0) make_drafts(draft, ids);
    const auto rows = static_cast<int64_t>(ids.size());
    const Out2 h = scratch.floats(rows, hidden);
    cache.extend(sequence, done + rows - cache.length(sequence));
    run_main(Path::kGenerated, ids, done, h);
    int64_t fresh = 0;
    while (fresh < rows) {
      const int32_t token = draw(Path::kGenerated, h.rows(fresh, fresh + 1), done + fresh + 1);
      tokens.push_back(token);
      ++fresh;
      if (fresh < rows && token != ids[static_cast<size_t>(fresh)]) break;
    }
    stats.drafted += rows - 1;
    stats.accepted += fresh - 1;
    ++stats.steps;
    cache.truncate(sequence, done + fresh);
    if (drafting) pending.insert(pending.end(), h.data(), h.data() + fresh * hidden);
    done += fresh;
    return fresh;
  }

  // Appends guesses for the tokens after tokens.back(). Beyond the first, the module runs on its
  // own output; the cache rows it leaves are written anew when the true ones are known.
  void make_drafts(int64_t draft, std::vector<int32_t>& ids) {
    catch_up();
    cache.extend(sequence, done + draft - cache.length(sequence));
    std::vector<float> h = last_mtp;
    for (int64_t i = 0; i < draft; ++i) {
      if (i > 0) {
        std::vector<float> next(h.size());
        run_mtp(Path::kGenerated, {&ids.back(), 1}, done + i - 1, row(h), row(next));
        h.swap(next);
      }
      ids.push_back(draw(Path::kGenerated, row(h), done + 1 + i));
    }
  }

  template <class Fn>
  void with_pass(Path path, int64_t rows, int64_t first, Fn&& fn) {
    const Arena::Scope scope(scratch);
    const View<int32_t, 1> positions = scratch.make<int32_t>(rows);
    for (int64_t i = 0; i < rows; ++i) positions.data()[i] = static_cast<int32_t>(first + i);
    const StepSpan span{0, rows, sequence, first};
    StepPass pass{path, cache, scratch, positions, {&span, 1}, options.precision};
    fn(pass);
  }

  Out2 row(std::vector<float>& v) const { return {v.data(), {1, hidden}}; }
  static Ids view(std::span<const int32_t> ids) {
    return {ids.data(), {static_cast<int64_t>(ids.size())}};
  }

  Transformer& model;
  const GenerateOptions& options;
  Arena& scratch;
  KvCache cache;
  KvCache::Sequence sequence;
  int64_t vocabulary, hidden;
  int64_t done = 0, mtp_done = 0;
  std::vector<int32_t> tokens;
  std::vector<float> last_h, last_mtp, pending;
};

GenerateStats Generator::generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                                  const std::function<bool(int32_t)>& on_token) {
  const ModelConfig& config = model_.config();
  const auto length = static_cast<int64_t>(prompt.size());
  check_sampling(options.sampling);
  HADAL_CHECK(length > 0, kUsage, "the prompt is empty; expected at least one token");
  HADAL_CHECK(length < config.max_position_embeddings, kUsage, "the prompt has ", length,
              " tokens; the model's context holds ", config.max_position_embeddings);
  for (int32_t id : prompt) {
    HADAL_CHECK(id >= 0 && id < config.vocab_size, kUsage, "token id ", id,
                " is outside the vocabulary of ", config.vocab_size);
  }
  const bool drafting =
      options.speculation.mode != Speculation::Mode::kOff && model_.mtp_depth() > 0;
  GenerateStats stats;
  stats.prompt_tokens = length;
  if (options.max_tokens <= 0) return stats;
  Run run(model_, options, scratch_);
  auto start = Clock::now();
  run.prefill(prompt, drafting);
  stats.prompt_seconds = seconds_since(start);

  // Hands out tokens as they become known; false when the text is at its end.
  int64_t shown = length;
  const auto hand_out = [&] {
    for (; shown < static_cast<int64_t>(run.tokens.size()); ++shown) {
      const int32_t token = run.tokens[static_cast<size_t>(shown)];
      stats.ended = std::find(options.end_tokens.begin(), options.end_tokens.end(), token) !=
                    options.end_tokens.end();
      if (stats.ended || stats.tokens == options.max_tokens) return false;
      ++stats.tokens;
      if (!on_token(token)) return false;
    }
    return stats.tokens < options.max_tokens && shown <= config.max_position_embeddings;
  };
  DraftController controller(options.speculation, drafting);
  start = Clock::now();
  while (hand_out()) {
    const int64_t room = std::min(options.max_tokens - stats.tokens - 1,
                                  config.max_position_embeddings - 1 - run.done);
    const int64_t draft = std::clamp<int64_t>(controller.next(), 0, std::max<int64_t>(room, 0));
    // After a while without drafts the module has much to read: not what a drafted step costs.
    if (draft > 0 && run.pending_rows() > 2 * (draft + 1)) run.catch_up();
    const auto began = Clock::now();
    const int64_t fresh = run.step(draft, drafting, stats);
    controller.record(draft, fresh, seconds_since(began));
  }
  stats.decode_seconds = seconds_since(start);
  return stats;
}

}  // namespace hadal
