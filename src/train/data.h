#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "model/transformer.h"
#include "train/fim.h"
#include "train/permutation.h"

namespace hadal {

// Calls fn(text) for each document of a file, in order; the file is streamed, never held whole.
//   .txt    one document (the whole file)
//   .jsonl  one a line, {"text": ...}; other keys are ignored, empty lines passed over
//   .zst    of either, decompressed on the way
// Error{kFormat} names file and line: not UTF-8 text, or no document at all. Error{kUsage} for
// another ending. `on_bytes` is told how many bytes of the file have been read since the last call.
void read_documents(const fs::path& path, const std::function<void(std::string_view)>& fn,
                    const std::function<void(int64_t)>& on_bytes = {});

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

// What a TokenSource reads: documents in memory, or in a mapped file that may be larger than
// memory. Copies share them.
class TokenStore {
 public:
  TokenStore(TokenDocuments documents);  // NOLINT(google-explicit-constructor): the plain case
  // `ids` lie in the file; `documents` says the rest and has none of its own. `ends` are not read
  // from the mapping, where zeros may stand of a sudden (MappedFile). `content`: see below.
  TokenStore(std::shared_ptr<const MappedFile> file, std::span<const int32_t> ids,
             TokenDocuments documents, uint64_t content);

  int64_t count() const;
  int64_t tokens() const { return tokens_; }
  uint64_t content() const { return content_; }  // a hash of the documents, and which they are
  std::span<const int32_t> document(int64_t i) const;
  int64_t bytes_of(int32_t id) const;
  // Only these documents, in this order.
  TokenStore subset(std::vector<int64_t> documents) const;
  // Error{kIo} if the file was cut short; to be called after reading.
  void check_intact() const;

 private:
  std::shared_ptr<const TokenDocuments> documents_;
  std::shared_ptr<const MappedFile> file_;  // null: ids are the documents' own
  std::span<const int32_t> ids_;
  std::shared_ptr<const std::vector<int64_t>> chosen_;  // null: all
  int64_t tokens_ = 0;
  uint64_t content_ = 0;
};

// A share of `count` documents chosen by the seed, at least one, never all. Error{kConfig} when
// there are fewer than two.
struct DocumentSplit {
  std::vector<int64_t> kept, held_out;
};
DocumentSplit split_documents(int64_t count, double share, uint64_t seed);

struct TokenSourceOptions {
  int64_t sequence_length = 512;
  int64_t mtp_depth = 0;
  uint64_t seed = 1;
  bool shuffle = true;  // false: documents and rows in order, for evaluation
  // Rows begin where documents begin: one that is cut by the end of a row begins the next row
  // anew, unless it began that row too and goes on where it was cut.
  bool whole_documents = false;
  // Attention, and what is predicted, stay inside documents (Batch::documents).
  bool document_mask = false;
  Fim fim{};
};

// A batch and the bytes of text its targets stand for.
struct TextBatch {
  Batch batch;
  int64_t bytes = 0;
};

// Where rows to train on come from: an endless sequence of them, each a pure function of its
// number, so that the cursor to save is one number.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // Rows row, row + 1, ... Not thread-safe.
  virtual TextBatch batch(int64_t row, int64_t sequences) = 0;
  virtual const TokenSourceOptions& options() const = 0;
  virtual int64_t tokens() const = 0;    // of an epoch
  virtual uint64_t content() const = 0;  // a hash of the documents: whether they are the same
};

// Rows of some documents.
//
// In each epoch the documents are put into an order drawn from (seed, epoch) and joined; row i of
// that stream begins at token i * T and reads T + 1 + D tokens, so that each token is an input once
// and, the very first apart, a target once. The rows then come in an order that is drawn too. What
// the last row lacks is kIgnored. With whole_documents the order of documents (and what FIM does to
// them) is that of the first epoch for ever, and ends of rows are read twice.
//
// Memory    a number a document, and with whole_documents one a row; never one a token.
class TokenSource final : public RowSource {
 public:
  TokenSource(TokenStore documents, TokenSourceOptions options);

  int64_t tokens() const override { return tokens_; }
  uint64_t content() const override { return documents_.content(); }
  int64_t rows_per_epoch() const { return rows_; }
  const TokenSourceOptions& options() const override { return options_; }
  TextBatch batch(int64_t row, int64_t sequences) override;

 private:
  bool rearranged(int64_t document) const;  // by FIM, in this epoch
  FimPieces pieces_of(int64_t document) const;
  void use_epoch(int64_t epoch);
  void order_documents(int64_t epoch);
  void place_rows();
  void read_row(int64_t position, std::span<int32_t> out, std::vector<int64_t>& begins) const;

  TokenStore documents_;
  TokenSourceOptions options_;
  int64_t tokens_ = 0, rows_ = 0;  // of an epoch, the same in each
  int64_t rearranged_count_ = 0;
  int64_t epoch_ = -1;            // whose rows are in order
  int64_t documents_epoch_ = -1;  // whose documents are
  Permutation order_, fim_order_, row_order_;
  std::vector<int64_t> starts_;      // where each document begins in the epoch's stream
  std::vector<int64_t> row_starts_;  // with whole_documents: where each row does
};

// Text that is never trained on, and the source it is of.
struct HeldOut {
  std::string name;
  std::shared_ptr<TokenSource> source;
};

// Sequences [begin, end) of a batch.
Batch slice(const Batch& batch, int64_t begin, int64_t end);
// The sequences of `part`, of the same length and depth, after those of `batch`.
void append(Batch& batch, const Batch& part);

}  // namespace hadal
