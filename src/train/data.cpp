#include "train/data.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/parallel.h"
#include "core/rng.h"

namespace hadal {
namespace {

// Streams of random numbers; parameters use those from 0 on.
constexpr uint64_t kEpochStream = uint64_t{1} << 40;  // + 2 * epoch; one more for the rows
constexpr uint64_t kSplitStream = uint64_t{1} << 41;

std::vector<int64_t> shuffled(int64_t n, Rng rng) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(rng.below(i + 1))]);
  }
  return order;
}

// Encodes in rounds, so that memory holds the text of one round only.
class Collector {
 public:
  explicit Collector(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    const std::optional<int32_t> eos = tokenizer.eos_id();
    HADAL_CHECK(eos.has_value(), kUsage,
                "the tokenizer names no eos_token, which must end each document of training text");
    eos_ = *eos;
    const auto prefix = tokenizer.prefix_ids();
    prefix_.assign(prefix.begin(), prefix.end());
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      const bool text = tokenizer.has_token(id) && !tokenizer.is_special(id);
      result_.bytes_of_id.push_back(text ? static_cast<int32_t>(tokenizer.token_bytes(id).size())
                                         : 0);
    }
  }

  void add(std::string_view document) {
    waiting_.emplace_back(document);
    bytes_ += static_cast<int64_t>(document.size());
    if (bytes_ >= kRoundBytes) encode();
  }

  TokenDocuments finish() {
    encode();
    return std::move(result_);
  }

 private:
  static constexpr int64_t kRoundBytes = int64_t{8} << 20;

  void encode() {
    std::vector<std::vector<int32_t>> encoded(waiting_.size());
    parallel_tasks(static_cast<int64_t>(waiting_.size()), [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      encoded[at] = tokenizer_.encode(waiting_[at], {.special = false});
    });
    for (const std::vector<int32_t>& ids : encoded) {
      std::vector<int32_t>& all = result_.ids;
      all.insert(all.end(), prefix_.begin(), prefix_.end());
      all.insert(all.end(), ids.begin(), ids.end());
      all.push_back(eos_);
      result_.ends.push_back(static_cast<int64_t>(all.size()));
    }
    waiting_.clear();
    bytes_ = 0;
  }

  const Tokenizer& tokenizer_;
  int32_t eos_ = 0;
  std::vector<int32_t> prefix_;
  std::vector<std::string> waiting_;
  int64_t bytes_ = 0;
  TokenDocuments result_;
};

}  // namespace

void TokenDocuments::add(std::span<const int32_t> document) {
  ids.insert(ids.end(), document.begin(), document.end());
  ends.push_back(static_cast<int64_t>(ids.size()));
}

std::vector<fs::path> expand_paths(std::span<const std::string> patterns) {
  std::vector<fs::path> paths;
  for (const std::string& pattern : patterns) {
    const fs::path path(pattern);
    const std::string name = path.filename().string();
    if (name.find_first_of("*?") == std::string::npos) {
      paths.push_back(path);
      continue;
    }
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const std::string candidate = entry.path().filename().string();
      if (::fnmatch(name.c_str(), candidate.c_str(), FNM_PERIOD) == 0) {
        found.push_back(folder / candidate);
      }
    }
    HADAL_CHECK(!found.empty(), kUsage, "no file matches ", pattern);
    std::sort(found.begin(), found.end());
    paths.insert(paths.end(), found.begin(), found.end());
  }
  return paths;
}

TokenDocuments tokenize_documents(const Tokenizer& tokenizer,
                                  std::span<const std::string> documents) {
  Collector collector(tokenizer);
  for (const std::string& document : documents) collector.add(document);
  return collector.finish();
}

TokenDocuments tokenize_files(const Tokenizer& tokenizer, std::span<const fs::path> files) {
  Collector collector(tokenizer);
  for (const fs::path& file : files) {
    read_documents(file, [&](std::string_view document) { collector.add(document); });
  }
  return collector.finish();
}

TokenDocuments split_documents(TokenDocuments& documents, double share, uint64_t seed) {
  const int64_t count = documents.count();
  HADAL_CHECK(count >= 2, kUsage, "cannot hold out a share of ", count, " document(s)");
  const auto wanted = int64_t{std::llround(share * static_cast<double>(count))};
  const auto order = shuffled(count, Rng(seed, kSplitStream));
  std::vector<bool> held(static_cast<size_t>(count));
  for (int64_t i = 0; i < std::clamp<int64_t>(wanted, 1, count - 1); ++i) {
    held[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
  }
  TokenDocuments kept, out;
  kept.bytes_of_id = out.bytes_of_id = documents.bytes_of_id;
  int64_t begin = 0;
  for (size_t i = 0; i < held.size(); ++i) {
    const int64_t end = documents.ends[i];
    (held[i] ? out : kept)
        .add(std::span(documents.ids)
                 .subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    begin = end;
  }
  documents = std::move(kept);
  return out;
}

TokenSource::TokenSource(TokenDocuments documents, const TokenSourceOptions& options)
    : documents_(std::move(documents)), options_(options) {
  HADAL_CHECK(options.sequence_length >= 1 && options.mtp_depth >= 0, kUsage, "rows of ",
              options.sequence_length, " tokens with ", options.mtp_depth, " MTP modules");
  HADAL_CHECK(tokens() >= 2, kUsage, "the data has ", tokens(),
              " tokens, expected at least 2: one to read and one to predict");
  use_epoch(0);
}

void TokenSource::order_documents(int64_t epoch) {
  const int64_t count = documents_.count();
  if (options_.shuffle) {
    order_ = shuffled(count, Rng(options_.seed, kEpochStream + 2 * static_cast<uint64_t>(epoch)));
  } else {
    order_.resize(static_cast<size_t>(count));
    std::iota(order_.begin(), order_.end(), int64_t{0});
  }
  starts_.clear();
  int64_t at = 0;
  for (const int64_t document : order_) {
    starts_.push_back(at);
    const auto d = static_cast<size_t>(document);
    at += documents_.ends[d] - (d == 0 ? 0 : documents_.ends[d - 1]);
  }
}

void TokenSource::place_rows() {
  row_starts_.clear();
  // The last token of all is only a target.
  for (int64_t at = 0; at < tokens() - 1;) {
    row_starts_.push_back(at);
    const int64_t end = at + options_.sequence_length;
    if (options_.whole_documents) {
      const int64_t cut = *(std::upper_bound(starts_.begin(), starts_.end(), end) - 1);
      at = cut > at && end < tokens() ? cut : end;
    } else {
      at = end;
    }
  }
}

void TokenSource::use_epoch(int64_t epoch) {
  if (epoch == epoch_) return;
  if (epoch_ < 0 || !options_.whole_documents) {
    order_documents(options_.whole_documents ? 0 : epoch);
    place_rows();
  }
  const int64_t rows = rows_per_epoch();
  if (options_.shuffle) {
    const uint64_t stream = kEpochStream + 2 * static_cast<uint64_t>(epoch) + 1;
    row_order_ = shuffled(rows, Rng(options_.seed, stream));
  } else {
    row_order_.resize(static_cast<size_t>(rows));
    std::iota(row_order_.begin(), row_order_.end(), int64_t{0});
  }
  epoch_ = epoch;
}

void TokenSource::read_row(int64_t position, std::span<int32_t> out) const {
  // The last document that starts at or before it (documents without tokens share their start).
  auto place = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) -
                                   starts_.begin() - 1);
  size_t done = 0;
  while (done < out.size() && place < starts_.size()) {
    const auto d = static_cast<size_t>(order_[place]);
    const int64_t begin = d == 0 ? 0 : documents_.ends[d - 1];
    const int64_t offset = position - starts_[place];
    const int64_t left = documents_.ends[d] - begin - offset;
    const auto take = std::min(static_cast<size_t>(left), out.size() - done);
    std::copy_n(documents_.ids.begin() + begin + offset, take, out.begin() + int64_t(done));
    done += take;
    position += static_cast<int64_t>(take);
    ++place;
  }
  std::fill(out.begin() + int64_t(done), out.end(), kIgnored);
}

TextBatch TokenSource::batch(int64_t row, int64_t sequences) {
  const int64_t width = options_.sequence_length + 1 + options_.mtp_depth;
  Tensor<int32_t, 2> rows({sequences, width});
  for (int64_t i = 0; i < sequences; ++i) {
    use_epoch((row + i) / rows_per_epoch());
    const int64_t index = row_order_[static_cast<size_t>((row + i) % rows_per_epoch())];
    read_row(row_starts_[static_cast<size_t>(index)], {rows.row(i), static_cast<size_t>(width)});
  }
  TextBatch text;
  text.batch = make_batch(rows, options_.sequence_length, options_.mtp_depth);
  // Where a row ends early there is nothing to predict, but every place must hold some token.
  const auto fill = [](std::vector<int32_t>& ids) {
    std::replace(ids.begin(), ids.end(), kIgnored, 0);
  };
  fill(text.batch.ids);
  for (std::vector<int32_t>& ids : text.batch.mtp_ids) fill(ids);
  for (const int32_t target : text.batch.targets) {
    if (target == kIgnored) continue;
    const auto id = static_cast<size_t>(target);
    text.bytes += documents_.bytes_of_id.empty()       ? 1
                  : id < documents_.bytes_of_id.size() ? documents_.bytes_of_id[id]
                                                       : 0;
  }
  return text;
}

Batch slice(const Batch& batch, int64_t begin, int64_t end) {
  const auto part = [&](const std::vector<int32_t>& v) {
    return std::vector<int32_t>(v.begin() + begin * batch.sequence_length,
                                v.begin() + end * batch.sequence_length);
  };
  Batch out{end - begin, batch.sequence_length, part(batch.ids), part(batch.targets), {}, {}};
  for (const auto& v : batch.mtp_ids) out.mtp_ids.push_back(part(v));
  for (const auto& v : batch.mtp_targets) out.mtp_targets.push_back(part(v));
  return out;
}

}  // namespace hadal
