#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace hadal {

// Calls fn(text) for each document of a file, in order; the file is streamed, never held whole.
//   .txt    one document (the whole file)
//   .jsonl  one a line, {"text": ...}; other keys are ignored, empty lines passed over
//   .zst    of either, decompressed on the way
// Error{kFormat} names file and line; Error{kUsage} for another ending.
void read_documents(const fs::path& path, const std::function<void(std::string_view)>& fn);

// Paths with * and ? expanded, sorted by name; Error{kUsage} for a pattern that matches no file.
std::vector<fs::path> expand_paths(std::span<const std::string> patterns);

// Documents as token ids, one after another.
struct TokenDocuments {
  std::vector<int32_t> ids;
  std::vector<int64_t> ends;  // document i is ids [ends[i-1], ends[i])
  // Bytes of text that an id stands for, 0 for special tokens: for bits per byte. Empty: one each.
  std::vector<int32_t> bytes_of_id;

  int64_t count() const { return static_cast<int64_t>(ends.size()); }
  void add(std::span<const int32_t> document);
};

// Tokenises documents: BOS in front if the tokenizer adds one, EOS behind every one (Error{kUsage}
// if the tokenizer has no EOS). Text that looks like special tokens is ordinary text. Documents are
// encoded by all threads; the result does not depend on their number.
TokenDocuments tokenize_documents(const Tokenizer& tokenizer,
                                  std::span<const std::string> documents);
TokenDocuments tokenize_files(const Tokenizer& tokenizer, std::span<const fs::path> files);

// Moves a share of the documents, chosen by the seed, out of `documents` and returns them: at least
// one, never all. Error{kUsage} when there are fewer than two.
TokenDocuments split_documents(TokenDocuments& documents, double share, uint64_t seed);

struct TokenSourceOptions {
  int64_t sequence_length = 512;
  int64_t mtp_depth = 0;
  uint64_t seed = 1;
  bool shuffle = true;  // false: documents and rows in order, for evaluation
  // Rows begin where documents begin: one that is cut by the end of a row begins the next row
  // anew, unless it began that row too and goes on where it was cut.
  bool whole_documents = false;
};

// A batch and the bytes of text its targets stand for.
struct TextBatch {
  Batch batch;
  int64_t bytes = 0;
};

// Rows to train on, a pure function of (documents, options, row): the cursor to save is one number.
//
// In each epoch the documents are put into an order drawn from (seed, epoch) and joined without
// masks between them; row i of that stream begins at token i * T and reads T + 1 + D tokens, so
// that each token is an input once and, the very first apart, a target once. The rows then come in
// an order that is drawn too. What the last row lacks is kIgnored. With whole_documents the order
// of documents is that of the first epoch for ever, and ends of rows are read twice.
class TokenSource {
 public:
  TokenSource(TokenDocuments documents, const TokenSourceOptions& options);

  int64_t tokens() const { return static_cast<int64_t>(documents_.ids.size()); }
  int64_t rows_per_epoch() const { return static_cast<int64_t>(row_starts_.size()); }
  const TokenSourceOptions& options() const { return options_; }
  // Rows row, row + 1, ... of the endless sequence of epochs. Not thread-safe (it keeps the order
  // of the last epoch).
  TextBatch batch(int64_t row, int64_t sequences);

 private:
  void use_epoch(int64_t epoch);
  void order_documents(int64_t epoch);
  void place_rows();
  void read_row(int64_t position, std::span<int32_t> out) const;

  TokenDocuments documents_;
  TokenSourceOptions options_;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;       // documents in this epoch's order
  std::vector<int64_t> starts_;      // where each begins in the epoch's stream
  std::vector<int64_t> row_starts_;  // where each row does, in their order
  std::vector<int64_t> row_order_;
};

// Sequences [begin, end) of a batch.
Batch slice(const Batch& batch, int64_t begin, int64_t end);

}  // namespace hadal
