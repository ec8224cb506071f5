#include "infer/row_batch.h"

#include <algorithm>

#include "core/parallel.h"

namespace hadal {
namespace {

constexpr int64_t kHeadRows = 32;  // logits held at a time for a prompt's logprobs

Ids view(const std::vector<int32_t>& ids) {
  return {ids.data(), {static_cast<int64_t>(ids.size())}};
}

std::span<float> span_of(Out2 row) {
  return {row.data(), static_cast<size_t>(row.dim(1))};
}

void append_tokens(const TextRows& rows, std::vector<int32_t>& ids) {
  const auto begin = rows.text->tokens.begin() + rows.first;
  ids.insert(ids.end(), begin, begin + rows.count);
}

void copy_rows(In2 from, Out2 to) {
  for (int64_t i = 0; i < from.dim(0); ++i) std::copy_n(from.row(i), from.dim(1), to.row(i));
}

// Runs fn(i) for texts, several at a time; what goes wrong with one is that one's error.
template <class Fn>
void for_texts(std::span<Text* const> texts, Fn fn) {
  parallel_tasks(static_cast<int64_t>(texts.size()), [&](int64_t i) {
    Text& text = *texts[static_cast<size_t>(i)];
    try {
      fn(i, text);
    } catch (const Error& e) {
      text.error = e;
    }
  });
}

}  // namespace

template <class Fn>
void RowBatch::with_pass(Path path, std::span<const TextRows> parts, Fn&& fn) {
  std::vector<int32_t> positions;
  std::vector<StepSpan> spans;
  for (const TextRows& p : parts) {
    const auto begin = static_cast<int64_t>(positions.size());
    spans.push_back({begin, begin + p.count, p.text->sequence, p.first});
    for (int64_t i = 0; i < p.count; ++i) {
      positions.push_back(static_cast<int32_t>(p.first + i));
    }
  }
  const Arena::Scope scope(scratch_);
  StepPass pass{path, cache_, scratch_, view(positions), spans, precision_};
  fn(pass);
}

void RowBatch::reserve(const Text& text, int64_t length) {
  const int64_t now = cache_.length(text.sequence);
  if (now > length) return cache_.truncate(text.sequence, length);
  cache_.extend(text.sequence, length - now);
}

int64_t RowBatch::pending_rows(const Text& text) const {
  return static_cast<int64_t>(text.pending.size()) / hidden();
}

int64_t RowBatch::vocabulary(const Text& text) const {
  return text.request->vocabulary > 0 ? text.request->vocabulary : model_.config().vocab_size;
}

// ---- prompts

void RowBatch::run_prompt(std::span<const TextRows> parts) {
  if (parts.empty()) return;
  const Arena::Scope scope(scratch_);
  std::vector<int32_t> ids;
  for (const TextRows& p : parts) {
    reserve(*p.text, p.first + p.count);
    append_tokens(p, ids);
  }
  const Out2 h = scratch_.floats(static_cast<int64_t>(ids.size()), hidden());
  with_pass(Path::kPrompt, parts, [&](StepPass& pass) { model_.step(view(ids), pass, h); });
  mtp_of_prompt(parts, h);

  std::vector<Text*> through;
  const Out2 last_h = scratch_.floats(static_cast<int64_t>(parts.size()), hidden());
  int64_t row = 0;
  for (const TextRows& p : parts) {
    const In2 mine = h.rows(row, row + p.count);
    row += p.count;
    if (p.text->wants_prompt_logprobs) logprobs_of_prompt(p, mine);
    if (p.first + p.count < p.text->prompt) continue;
    const In2 last = mine.rows(p.count - 1, p.count);
    if (p.text->size() == p.text->prompt) {
      const auto place = static_cast<int64_t>(through.size());
      copy_rows(last, last_h.rows(place, place + 1));
      through.push_back(p.text);
    }
    p.text->mtp_done = p.text->prompt - 1;
    p.text->pending.clear();
    remember(*p.text, last);
  }
  draw_first(through, last_h.rows(0, static_cast<int64_t>(through.size())));
  for (const TextRows& p : parts) p.text->done = p.first + p.count;
}

// The module's rows need the token one place on, which the last of a prompt does not have yet.
void RowBatch::mtp_of_prompt(std::span<const TextRows> parts, In2 h) {
  std::vector<TextRows> rows;
  std::vector<int32_t> next;
  const Arena::Scope scope(scratch_);
  const Out2 h_prev = scratch_.floats(h.dim(0), hidden());
  int64_t from = 0, to = 0;
  for (const TextRows& p : parts) {
    const int64_t count = std::min(p.count, p.text->prompt - 1 - p.first);
    if (p.text->drafting && count > 0) {
      rows.push_back({p.text, p.first, count});
      append_tokens({p.text, p.first + 1, count}, next);
      copy_rows(h.rows(from, from + count), h_prev.rows(to, to + count));
      to += count;
    }
    from += p.count;
  }
  if (rows.empty()) return;
  const Out2 unused = scratch_.floats(to, hidden());
  with_pass(Path::kPrompt, rows,
            [&](StepPass& pass) { model_.mtp_step(view(next), h_prev.rows(0, to), pass, unused); });
}

void RowBatch::logprobs_of_prompt(const TextRows& part, In2 h) {
  Text& text = *part.text;
  const int64_t rows = std::min(part.count, text.prompt - 1 - part.first);
  text.of_prompt.resize(static_cast<size_t>(part.first));
  for (int64_t begin = 0; begin < rows; begin += kHeadRows) {
    const Arena::Scope scope(scratch_);
    const int64_t end = std::min(begin + kHeadRows, rows);
    const Out2 logits = scratch_.floats(end - begin, model_.config().vocab_size);
    with_pass(Path::kPrompt, {},
              [&](StepPass& pass) { model_.head(h.rows(begin, end), pass, logits); });
    for (int64_t i = begin; i < end; ++i) {
      const int32_t next = text.tokens[static_cast<size_t>(part.first + i + 1)];
      text.of_prompt.push_back(token_logprobs(span_of(logits.rows(i - begin, i - begin + 1)),
                                              vocabulary(text), next,
                                              text.request->prompt_logprobs));
    }
  }
}

void RowBatch::draw_first(std::span<Text* const> texts, In2 last_h) {
  if (texts.empty()) return;
  const Arena::Scope scope(scratch_);
  const Out2 logits = scratch_.floats(last_h.dim(0), model_.config().vocab_size);
  with_pass(Path::kPrompt, {}, [&](StepPass& pass) { model_.head(last_h, pass, logits); });
  for_texts(texts, [&](int64_t i, Text& text) {
    text.logprobs.clear();
    append(text, logits.rows(i, i + 1));
  });
}

// ---- drawing

int32_t RowBatch::draw(const Text& text, Out2 logits, int64_t position) const {
  const std::span<const float> raw = span_of(logits);
  if (!text.sampling.penalises() && text.sampling.logit_bias.empty()) {
    return sample_token(raw, vocabulary(text), text.sampling, position);
  }
  std::vector<float> adjusted(raw.begin(), raw.end());
  adjust_logits(adjusted, text.sampling, text.counts);
  return sample_token(adjusted, vocabulary(text), text.sampling, position);
}

void RowBatch::append(Text& text, Out2 logits) {
  const int32_t token = draw(text, logits, text.size());
  if (text.request->logprobs >= 0) {
    text.logprobs.push_back(
        token_logprobs(span_of(logits), vocabulary(text), token, text.request->logprobs));
  }
  text.tokens.push_back(token);
  if (text.sampling.penalises()) ++text.counts[token];
}

// The h of rows that the MTP module has to read.
void RowBatch::remember(Text& text, In2 h) const {
  if (!text.drafting) return;
  for (int64_t i = 0; i < h.dim(0); ++i) {
    text.pending.insert(text.pending.end(), h.row(i), h.row(i) + hidden());
  }
}

// ---- generated tokens

void RowBatch::run_generated(std::span<Text* const> ready, std::span<const TextRows> replay) {
  if (ready.empty() && replay.empty()) return;
  const Arena::Scope scope(scratch_);
  for (Text* t : ready) reserve(*t, t->done + 1 + t->drafts);
  for (const TextRows& r : replay) reserve(*r.text, r.first + r.count);
  const auto drafts = make_drafts(ready);

  std::vector<TextRows> parts;
  std::vector<int32_t> ids;
  for (size_t i = 0; i < ready.size(); ++i) {
    parts.push_back({ready[i], ready[i]->done, static_cast<int64_t>(drafts[i].size())});
    ids.insert(ids.end(), drafts[i].begin(), drafts[i].end());
  }
  const auto drawn = static_cast<int64_t>(ids.size());
  for (const TextRows& r : replay) {
    parts.push_back(r);
    append_tokens(r, ids);
  }
  const Out2 h = scratch_.floats(static_cast<int64_t>(ids.size()), hidden());
  const Out2 logits = scratch_.floats(drawn, model_.config().vocab_size);
  with_pass(Path::kGenerated, parts, [&](StepPass& pass) {
    model_.step(view(ids), pass, h);
    if (drawn > 0) model_.head(h.rows(0, drawn), pass, logits);
  });

  std::vector<int64_t> first_row;
  int64_t row = 0;
  for (const TextRows& p : parts) {
    first_row.push_back(row);
    row += p.count;
  }
  for_texts(ready, [&](int64_t i, Text& text) {
    const auto n = static_cast<size_t>(i);
    const int64_t begin = first_row[n], end = begin + parts[n].count;
    accept(text, drafts[n], h.rows(begin, end), logits.rows(begin, end));
  });
  for (size_t i = 0; i < replay.size(); ++i) {
    Text& text = *replay[i].text;
    const int64_t begin = first_row[ready.size() + i];
    remember(text, h.rows(begin, begin + replay[i].count));
    text.done += replay[i].count;
  }
  for (Text* t : ready) reserve(*t, t->done);
}

// Keeps what agrees with the drafts, and the token that the last of those rows gave.
void RowBatch::accept(Text& text, const std::vector<int32_t>& ids, In2 h, Out2 logits) {
  const auto rows = static_cast<int64_t>(ids.size());
  int64_t fresh = 0;
  text.logprobs.clear();
  while (fresh < rows) {
    append(text, logits.rows(fresh, fresh + 1));
    ++fresh;
    if (fresh < rows && text.tokens.back() != ids[static_cast<size_t>(fresh)]) break;
  }
  text.drafted += rows - 1;
  text.accepted += fresh - 1;
  ++text.steps;
  remember(text, h.rows(0, fresh));
  text.done += fresh;
}

void RowBatch::catch_up(std::span<Text* const> texts) {
  std::vector<TextRows> rows;
  std::vector<int32_t> next;
  int64_t all = 0;
  for (Text* t : texts) {
    const int64_t count = pending_rows(*t);
    if (count == 0) continue;
    rows.push_back({t, t->mtp_done, count});
    append_tokens({t, t->mtp_done + 1, count}, next);
    all += count;
  }
  if (rows.empty()) return;
  const Arena::Scope scope(scratch_);
  const Out2 h_prev = scratch_.floats(all, hidden()), h = scratch_.floats(all, hidden());
  float* to = h_prev.data();
  for (const TextRows& r : rows) {
    to = std::copy(r.text->pending.begin(), r.text->pending.end(), to);
  }
  with_pass(Path::kGenerated, rows,
            [&](StepPass& pass) { model_.mtp_step(view(next), h_prev, pass, h); });
  int64_t end = 0;
  for (const TextRows& r : rows) {
    end += r.count;
    r.text->last_mtp.assign(h.row(end - 1), h.row(end - 1) + hidden());
    r.text->mtp_done += r.count;
    r.text->pending.clear();
  }
}

// For each text its newest token and, after it, guesses at the next. Beyond the first, the module
// runs on its own output; the cache rows it leaves are written anew when the true ones are known.
std::vector<std::vector<int32_t>> RowBatch::make_drafts(std::span<Text* const> ready) {
  std::vector<std::vector<int32_t>> ids;
  std::vector<Text*> reading;
  for (Text* t : ready) {
    ids.push_back({t->tokens.back()});
    if (t->drafts > 0) reading.push_back(t);
  }
  catch_up(reading);
  for (int64_t step = 0; !reading.empty(); ++step) {
    std::vector<TextRows> rows;
    std::vector<size_t> places;
    std::vector<int32_t> newest;
    for (size_t i = 0; i < ready.size(); ++i) {
      if (ready[i]->drafts <= step) continue;
      rows.push_back({ready[i], ready[i]->done + step - 1, 1});
      places.push_back(i);
      newest.push_back(ids[i].back());
    }
    if (rows.empty()) break;
    if (step > 0) chain(rows, newest);
    const std::vector<int32_t> guesses = guess(rows);
    for (size_t i = 0; i < places.size(); ++i) ids[places[i]].push_back(guesses[i]);
  }
  return ids;
}

// The module's next row of each text, from its own output and the newest guess.
void RowBatch::chain(std::span<const TextRows> rows, const std::vector<int32_t>& newest) {
  const Arena::Scope scope(scratch_);
  const auto n = static_cast<int64_t>(rows.size());
  const Out2 h_prev = scratch_.floats(n, hidden()), h = scratch_.floats(n, hidden());
  for (int64_t i = 0; i < n; ++i) {
    const std::vector<float>& last = rows[static_cast<size_t>(i)].text->last_mtp;
    std::copy(last.begin(), last.end(), h_prev.row(i));
  }
  with_pass(Path::kGenerated, rows,
            [&](StepPass& pass) { model_.mtp_step(view(newest), h_prev, pass, h); });
  for (int64_t i = 0; i < n; ++i) {
    rows[static_cast<size_t>(i)].text->last_mtp.assign(h.row(i), h.row(i) + hidden());
  }
}

// What the modules' last rows say comes two places on.
std::vector<int32_t> RowBatch::guess(std::span<const TextRows> rows) {
  const Arena::Scope scope(scratch_);
  const auto n = static_cast<int64_t>(rows.size());
  const Out2 h = scratch_.floats(n, hidden());
  const int64_t all = model_.config().vocab_size;
  const Out2 logits =
      scratch_.floats(n, draft_vocabulary_ == 0 ? all : std::min(draft_vocabulary_, all));
  for (int64_t i = 0; i < n; ++i) {
    const std::vector<float>& last = rows[static_cast<size_t>(i)].text->last_mtp;
    std::copy(last.begin(), last.end(), h.row(i));
  }
  with_pass(Path::kGenerated, {}, [&](StepPass& pass) { model_.head(h, pass, logits); });
  std::vector<int32_t> ids(rows.size());
  parallel_tasks(n, [&](int64_t i) {
    const TextRows& r = rows[static_cast<size_t>(i)];
    try {
      ids[static_cast<size_t>(i)] = draw(*r.text, logits.rows(i, i + 1), r.first + 2);
    } catch (const Error&) {
      ids[static_cast<size_t>(i)] = 0;  // a guess that is wrong costs a row, no more
    }
  });
  return ids;
}

}  // namespace hadal
