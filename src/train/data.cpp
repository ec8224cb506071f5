#include "train/data.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/hash.h"

namespace hadal {
namespace {

// Streams of random numbers; parameters use those from 0 on. Each has room for two an epoch.
constexpr uint64_t kEpochStream = uint64_t{1} << 40;  // documents, rows
constexpr uint64_t kSplitStream = uint64_t{1} << 41;
constexpr uint64_t kFimStream = uint64_t{1} << 42;  // which documents, where they are cut

uint64_t stream_of(uint64_t first, int64_t epoch) {
  return first + 2 * static_cast<uint64_t>(epoch);
}

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

TokenStore::TokenStore(TokenDocuments documents)
    : documents_(std::make_shared<const TokenDocuments>(std::move(documents))),
      ids_(documents_->ids),
      tokens_(static_cast<int64_t>(ids_.size())) {
  Hash64 hash;
  hash.add(std::as_bytes(ids_));
  hash.add(std::as_bytes(std::span(documents_->ends)));
  content_ = hash.value();
}

TokenStore::TokenStore(std::shared_ptr<const MappedFile> file, std::span<const int32_t> ids,
                       TokenDocuments documents, uint64_t content)
    : documents_(std::make_shared<const TokenDocuments>(std::move(documents))),
      file_(std::move(file)),
      ids_(ids),
      tokens_(static_cast<int64_t>(ids_.size())),
      content_(content) {
}

int64_t TokenStore::count() const {
  return static_cast<int64_t>(chosen_ ? chosen_->size() : documents_->ends.size());
}

std::span<const int32_t> TokenStore::document(int64_t i) const {
  const auto d = static_cast<size_t>(chosen_ ? (*chosen_)[static_cast<size_t>(i)] : i);
  const std::vector<int64_t>& ends = documents_->ends;
  const auto begin = static_cast<size_t>(d == 0 ? 0 : ends[d - 1]);
  return ids_.subspan(begin, static_cast<size_t>(ends[d]) - begin);
}

int64_t TokenStore::bytes_of(int32_t id) const {
  const std::vector<int32_t>& bytes = documents_->bytes_of_id;
  const auto at = static_cast<size_t>(id);
  return bytes.empty() ? 1 : at < bytes.size() ? bytes[at] : 0;
}

TokenStore TokenStore::subset(std::vector<int64_t> documents) const {
  TokenStore part = *this;
  part.tokens_ = 0;
  for (int64_t& d : documents) {
    part.tokens_ += static_cast<int64_t>(document(d).size());
    if (chosen_) d = (*chosen_)[static_cast<size_t>(d)];
  }
  part.chosen_ = std::make_shared<const std::vector<int64_t>>(std::move(documents));
  Hash64 hash(content_);
  hash.add(std::as_bytes(std::span(*part.chosen_)));
  part.content_ = hash.value();
  return part;
}

void TokenStore::check_intact() const {
  if (file_) file_->check_intact();
}

DocumentSplit split_documents(int64_t count, double share, uint64_t seed) {
  HADAL_CHECK(count >= 2, kConfig, "cannot hold out a share of ", count, " document(s)");
  const auto wanted = int64_t{std::llround(share * static_cast<double>(count))};
  const int64_t held_out = std::clamp<int64_t>(wanted, 1, count - 1);
  const Permutation order(count, seed, kSplitStream);
  DocumentSplit split;
  for (int64_t d = 0; d < count; ++d) {
    (order(d) < held_out ? split.held_out : split.kept).push_back(d);
  }
  return split;
}

TokenSource::TokenSource(TokenStore documents, TokenSourceOptions options)
    : documents_(std::move(documents)), options_(std::move(options)) {
  HADAL_CHECK(options_.sequence_length >= 1 && options_.mtp_depth >= 0, kUsage, "rows of ",
              options_.sequence_length, " tokens with ", options_.mtp_depth, " MTP modules");
  rearranged_count_ =
      int64_t{std::llround(options_.fim.rate * static_cast<double>(documents_.count()))};
  tokens_ = documents_.tokens() + kFimTokens * rearranged_count_;
  HADAL_CHECK(tokens_ >= 2, kUsage, "the data has ", tokens_,
              " tokens, expected at least 2: one to read and one to predict");
  // The last token of all is only a target.
  rows_ = (tokens_ - 1 + options_.sequence_length - 1) / options_.sequence_length;
  use_epoch(0);
}

bool TokenSource::rearranged(int64_t document) const {
  return rearranged_count_ > 0 && fim_order_(document) < rearranged_count_;
}

FimPieces TokenSource::pieces_of(int64_t document) const {
  const std::span<const int32_t> ids = documents_.document(document);
  if (!rearranged(document)) return {ids};
  return fim_pieces(ids, options_.fim, options_.seed, stream_of(kFimStream, documents_epoch_) + 1,
                    document);
}

void TokenSource::order_documents(int64_t epoch) {
  const int64_t count = documents_.count();
  documents_epoch_ = epoch;
  fim_order_ = Permutation(count, options_.seed, stream_of(kFimStream, epoch));
  order_ = options_.shuffle ? Permutation(count, options_.seed, stream_of(kEpochStream, epoch))
                            : Permutation(count);
  starts_.resize(static_cast<size_t>(count));
  int64_t at = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t d = order_(i);
    starts_[static_cast<size_t>(i)] = at;
    at += static_cast<int64_t>(documents_.document(d).size()) + (rearranged(d) ? kFimTokens : 0);
  }
}

void TokenSource::place_rows() {
  row_starts_.clear();
  for (int64_t at = 0; at < tokens_ - 1;) {
    row_starts_.push_back(at);
    const int64_t end = at + options_.sequence_length;
    const int64_t cut = *(std::upper_bound(starts_.begin(), starts_.end(), end) - 1);
    at = cut > at && end < tokens_ ? cut : end;
  }
  rows_ = static_cast<int64_t>(row_starts_.size());
}

void TokenSource::use_epoch(int64_t epoch) {
  if (epoch == epoch_) return;
  if (!options_.whole_documents) {
    order_documents(epoch);
  } else if (documents_epoch_ < 0) {
    order_documents(0);
    place_rows();
  }
  row_order_ = options_.shuffle
                   ? Permutation(rows_, options_.seed, stream_of(kEpochStream, epoch) + 1)
                   : Permutation(rows_);
  epoch_ = epoch;
}

// Tokens from `position` of the epoch's stream on; `begins` are the places of `out` at which
// documents begin.
void TokenSource::read_row(int64_t position, std::span<int32_t> out,
                           std::vector<int64_t>& begins) const {
  begins.clear();
  // The last document that starts at or before it (documents without tokens share their start).
  auto place = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) -
                                   starts_.begin() - 1);
  auto skip = static_cast<size_t>(position - starts_[place]);
  size_t done = 0;
  for (; done < out.size() && place < starts_.size(); ++place) {
    begins.push_back(static_cast<int64_t>(done));
    for (const std::span<const int32_t> piece : pieces_of(order_(static_cast<int64_t>(place)))) {
      const size_t passed = std::min(skip, piece.size());
      const size_t take = std::min(piece.size() - passed, out.size() - done);
      std::copy_n(piece.begin() + static_cast<int64_t>(passed), take,
                  out.begin() + static_cast<int64_t>(done));
      skip -= passed;
      done += take;
    }
  }
  std::fill(out.begin() + static_cast<int64_t>(done), out.end(), kIgnored);
}

namespace {

// Where a row ends early there is nothing to predict, but every place must hold some token.
void fill_ids(Batch& batch) {
  const auto fill = [](std::vector<int32_t>& ids) {
    std::replace(ids.begin(), ids.end(), kIgnored, 0);
  };
  fill(batch.ids);
  for (std::vector<int32_t>& ids : batch.mtp_ids) fill(ids);
}

// Keeps sequence b to its documents, which begin at `begins` of the T + 1 + D tokens it was made
// of: what lies beyond the end of a token's own is neither read by an MTP module nor predicted.
void mask_documents(Batch& batch, int64_t b, std::span<const int64_t> begins) {
  const int64_t length = batch.sequence_length, first = b * length;
  auto next = begins.begin();
  for (int64_t t = 0; t < length; ++t) {
    if (t == 0 || (next != begins.end() && *next == t)) batch.documents.push_back(first + t);
    while (next != begins.end() && *next <= t) ++next;
    if (next == begins.end()) continue;
    const auto at = static_cast<size_t>(first + t);
    if (t + 1 >= *next) batch.targets[at] = kIgnored;
    for (size_t d = 0; d < batch.mtp_ids.size(); ++d) {
      const int64_t read = t + 1 + static_cast<int64_t>(d);
      if (read >= *next) batch.mtp_ids[d][at] = kIgnored;
      if (read + 1 >= *next) batch.mtp_targets[d][at] = kIgnored;
    }
  }
}

}  // namespace

TextBatch TokenSource::batch(int64_t row, int64_t sequences) {
  const int64_t width = options_.sequence_length + 1 + options_.mtp_depth;
  Tensor<int32_t, 2> rows({sequences, width});
  std::vector<std::vector<int64_t>> begins(static_cast<size_t>(sequences));
  for (int64_t i = 0; i < sequences; ++i) {
    use_epoch((row + i) / rows_);
    const int64_t index = row_order_((row + i) % rows_);
    read_row(options_.whole_documents ? row_starts_[static_cast<size_t>(index)]
                                      : index * options_.sequence_length,
             {rows.row(i), static_cast<size_t>(width)}, begins[static_cast<size_t>(i)]);
  }
  documents_.check_intact();
  TextBatch text;
  text.batch = make_batch(rows, options_.sequence_length, options_.mtp_depth);
  if (options_.document_mask) {
    for (int64_t i = 0; i < sequences; ++i) {
      mask_documents(text.batch, i, begins[static_cast<size_t>(i)]);
    }
  }
  fill_ids(text.batch);
  for (const int32_t target : text.batch.targets) {
    if (target != kIgnored) text.bytes += documents_.bytes_of(target);
  }
  return text;
}

Batch slice(const Batch& batch, int64_t begin, int64_t end) {
  const int64_t first = begin * batch.sequence_length, last = end * batch.sequence_length;
  const auto part = [&](const std::vector<int32_t>& v) {
    return std::vector<int32_t>(v.begin() + first, v.begin() + last);
  };
  Batch out{end - begin, batch.sequence_length, part(batch.ids), part(batch.targets), {}, {}};
  for (const auto& v : batch.mtp_ids) out.mtp_ids.push_back(part(v));
  for (const auto& v : batch.mtp_targets) out.mtp_targets.push_back(part(v));
  for (const int64_t row : batch.documents) {
    if (row >= first && row < last) out.documents.push_back(row - first);
  }
  return out;
}

void append(Batch& batch, const Batch& part) {
  if (batch.sequences == 0) {
    batch = part;
    return;
  }
  const auto join = [](std::vector<int32_t>& to, const std::vector<int32_t>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  for (const int64_t row : part.documents) {
    batch.documents.push_back(batch.sequences * batch.sequence_length + row);
  }
  join(batch.ids, part.ids);
  join(batch.targets, part.targets);
  for (size_t d = 0; d < part.mtp_ids.size(); ++d) {
    join(batch.mtp_ids[d], part.mtp_ids[d]);
    join(batch.mtp_targets[d], part.mtp_targets[d]);
  }
  batch.sequences += part.sequences;
}

}  // namespace hadal
