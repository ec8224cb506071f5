#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hadal {

// A read-only map from byte strings to ids, for a vocabulary. The strings stay the caller's.
class StringTable {
 public:
  explicit StringTable(size_t expected = 0);
  bool insert(std::string_view key, int32_t id);  // false when the key is there already
  int32_t find(std::string_view key) const;       // -1 when it is not

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t entry = -1;
  };
  struct Entry {
    std::string_view key;
    int32_t id;
  };
  void resize(size_t slots);
  size_t locate(uint32_t hash, std::string_view key) const;  // its slot, or the free one for it
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;  // open addressing; a power of two
};

// Byte-pair encoding of words: which pairs of ids merge, in which order, into which id.
// Immutable: any number of threads may use one, each with its own Scratch.
class BpeModel {
 public:
  struct Merge {
    int32_t left, right, merged;
  };
  struct Options {
    bool ignore_merges = false;  // a word that is a token is that token, however merges would go
    int32_t unknown_id = -1;     // for a byte without a token; -1: such a byte is left out
    bool fuse_unknown = false;   // a run of such bytes is one unknown_id
  };
  struct Scratch {
    std::vector<int32_t> ids;
    std::vector<uint32_t> previous, next;
    std::vector<uint64_t> heap;
    int64_t steps = 0;  // look-ups and heap operations so far: the work, for tests
  };

  // `byte_ids`: the token of each byte, -1 for none. `merges` in order of rank, no pair twice.
  // `words`: the bytes of each token that a word may be, with its id; views into strings that
  // outlive the model. Ids are in [0, vocab_size).
  BpeModel(const std::array<int32_t, 256>& byte_ids, std::span<const Merge> merges,
           std::span<const std::pair<std::string_view, int32_t>> words, int64_t vocab_size,
           Options options);

  // Appends the ids of one word: the pair of lowest rank merges first, the leftmost of equals.
  // O(n log n) in its bytes.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Pair {
    uint64_t key = kNoPair;  // left << 32 | right
    uint32_t rank = kNoRank;
    int32_t merged = -1;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  static constexpr uint32_t kNoRank = ~uint32_t{0};
  enum : uint8_t { kUntried, kWhole, kParts };

  const Pair& find(int32_t left, int32_t right) const;
  void start(std::string_view word, std::vector<int32_t>& ids) const;
  void merge_short(std::vector<int32_t>& ids, int64_t& steps) const;
  void merge_long(Scratch& scratch) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<Pair> pairs_;  // open addressing; a power of two
  uint64_t pair_mask_ = 0;
  Pair none_;
  StringTable words_;
  size_t longest_word_ = 0;
  Options options_;
  // Whether merging the bytes of a token gives that token, found out when first asked.
  std::unique_ptr<std::atomic<uint8_t>[]> whole_;
};

}  // namespace hadal
