#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

namespace hadal {
namespace {

// Up to so many symbols a scan for the lowest rank beats a heap.
constexpr size_t kShortWord = 48;

uint64_t load64(const char* p) {
  uint64_t value = 0;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

uint64_t load32(const char* p) {
  uint32_t value = 0;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

uint64_t mix(uint64_t value) {
  value *= 0x9e3779b97f4a7c15u;
  return value ^ value >> 32;
}

uint32_t hash_bytes(std::string_view key) {
  const char* p = key.data();
  size_t left = key.size();
  uint64_t hash = left;
  for (; left > 8; left -= 8, p += 8) hash = mix(hash ^ load64(p));
  if (left >= 4) {
    hash = mix(hash ^ (load32(p) | load32(p + left - 4) << 32));
  } else if (left > 0) {
    const auto byte = [p](size_t i) { return uint64_t{static_cast<unsigned char>(p[i])}; };
    hash = mix(hash ^ (byte(0) | byte(left / 2) << 8 | byte(left - 1) << 16));
  }
  return static_cast<uint32_t>(mix(hash) >> 16);
}

}  // namespace

StringTable::StringTable(size_t expected) {
  entries_.reserve(expected);
  resize(std::bit_ceil(std::max<size_t>(16, 2 * expected)));
}

size_t StringTable::locate(uint32_t hash, std::string_view key) const {
  size_t at = hash & (slots_.size() - 1);
  for (; slots_[at].entry >= 0; at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].hash == hash && entries_[static_cast<size_t>(slots_[at].entry)].key == key)
      break;
  }
  return at;
}

bool StringTable::insert(std::string_view key, int32_t id) {
  if (2 * (entries_.size() + 1) > slots_.size()) resize(2 * slots_.size());
  const uint32_t hash = hash_bytes(key);
  const size_t at = locate(hash, key);
  if (slots_[at].entry >= 0) return false;
  slots_[at] = {hash, static_cast<int32_t>(entries_.size())};
  entries_.push_back({key, id});
  return true;
}

int32_t StringTable::find(std::string_view key) const {
  const int32_t entry = slots_[locate(hash_bytes(key), key)].entry;
  return entry < 0 ? -1 : entries_[static_cast<size_t>(entry)].id;
}

void StringTable::resize(size_t slots) {
  slots_.assign(slots, {});
  for (size_t i = 0; i < entries_.size(); ++i) {
    const uint32_t hash = hash_bytes(entries_[i].key);
    slots_[locate(hash, entries_[i].key)] = {hash, static_cast<int32_t>(i)};
  }
}

BpeModel::BpeModel(const std::array<int32_t, 256>& byte_ids, std::span<const Merge> merges,
                   std::span<const std::pair<std::string_view, int32_t>> words, int64_t vocab_size,
                   Options options)
    : byte_ids_(byte_ids),
      pairs_(std::bit_ceil(std::max<size_t>(16, 2 * merges.size()))),
      pair_mask_(pairs_.size() - 1),
      words_(words.size()),
      options_(options),
      whole_(std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(vocab_size))) {
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const uint64_t key = uint64_t(uint32_t(merge.left)) << 32 | uint64_t(uint32_t(merge.right));
    uint64_t at = mix(key) & pair_mask_;
    while (pairs_[at].key != kNoPair) at = (at + 1) & pair_mask_;
    pairs_[at] = {key, static_cast<uint32_t>(rank), merge.merged};
  }
  for (const auto& [bytes, id] : words) {
    words_.insert(bytes, id);
    longest_word_ = std::max(longest_word_, bytes.size());
  }
}

const BpeModel::Pair& BpeModel::find(int32_t left, int32_t right) const {
  const uint64_t key = uint64_t(uint32_t(left)) << 32 | uint64_t(uint32_t(right));
  uint64_t at = mix(key) & pair_mask_;
  for (; pairs_[at].key != kNoPair; at = (at + 1) & pair_mask_) {
    if (pairs_[at].key == key) return pairs_[at];
  }
  return none_;
}

void BpeModel::start(std::string_view word, std::vector<int32_t>& ids) const {
  ids.clear();
  bool was_unknown = false;
  for (const char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      ids.push_back(id);
      was_unknown = false;
    } else if (options_.unknown_id >= 0) {
      if (!was_unknown || !options_.fuse_unknown) ids.push_back(options_.unknown_id);
      was_unknown = true;
    }
  }
}

void BpeModel::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  int32_t token = -1;
  if (word.size() <= longest_word_) token = words_.find(word);
  ++scratch.steps;
  if (token >= 0) {
    if (options_.ignore_merges || whole_[token].load(std::memory_order_relaxed) == kWhole) {
      ids.push_back(token);
      return;
    }
  }
  start(word, scratch.ids);
  if (scratch.ids.size() <= kShortWord) {
    merge_short(scratch.ids, scratch.steps);
  } else {
    merge_long(scratch);
  }
  // Every thread that comes here stores the same.
  if (token >= 0) {
    const bool is_whole = scratch.ids.size() == 1 && scratch.ids[0] == token;
    whole_[token].store(is_whole ? kWhole : kParts, std::memory_order_relaxed);
  }
  ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
}

void BpeModel::merge_short(std::vector<int32_t>& ids, int64_t& steps) const {
  size_t count = ids.size();
  if (count < 2) return;
  std::array<uint32_t, kShortWord> rank;
  std::array<int32_t, kShortWord> merged;
  const auto look = [&](size_t i) {
    const Pair& pair = find(ids[i], ids[i + 1]);
    rank[i] = pair.rank;
    merged[i] = pair.merged;
    ++steps;
  };
  for (size_t i = 0; i + 1 < count; ++i) look(i);
  while (count > 1) {
    const size_t at = static_cast<size_t>(std::min_element(rank.begin(), rank.begin() + count - 1) -
                                          rank.begin());
    if (rank[at] == kNoRank) break;
    ids[at] = merged[at];
    --count;
    for (size_t i = at + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      rank[i] = rank[i + 1];
      merged[i] = merged[i + 1];
    }
    if (at > 0) look(at - 1);
    if (at + 1 < count) look(at);
  }
  ids.resize(count);
}

void BpeModel::merge_long(Scratch& scratch) const {
  // Not a structured binding: the lambda below could not capture it in C++20 as clang 14 has it.
  auto& ids = scratch.ids;
  auto& previous = scratch.previous;
  auto& next = scratch.next;
  auto& heap = scratch.heap;
  auto& steps = scratch.steps;
  const auto count = static_cast<uint32_t>(ids.size());
  constexpr uint32_t kEnd = ~uint32_t{0};
  previous.resize(count);
  next.resize(count);
  heap.clear();
  for (uint32_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? kEnd : i - 1;
    next[i] = i + 1 == count ? kEnd : i + 1;
    if (next[i] == kEnd) break;
    const Pair& pair = find(ids[i], ids[i + 1]);
    if (pair.rank != kNoRank) heap.push_back(uint64_t{pair.rank} << 32 | i);
    ++steps;
  }
  const auto order = std::greater<>();
  std::make_heap(heap.begin(), heap.end(), order);
  const auto push = [&](uint32_t at) {
    const Pair& pair = find(ids[at], ids[next[at]]);
    ++steps;
    if (pair.rank == kNoRank) return;
    heap.push_back(uint64_t{pair.rank} << 32 | at);
    std::push_heap(heap.begin(), heap.end(), order);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), order);
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto at = static_cast<uint32_t>(heap.back());
    heap.pop_back();
    ++steps;
    // An entry is stale when one of its two symbols was merged with another since.
    if (ids[at] < 0 || next[at] == kEnd) continue;
    const uint32_t right = next[at];
    const Pair& pair = find(ids[at], ids[right]);
    if (pair.rank != rank) continue;
    ids[at] = pair.merged;
    ids[right] = -1;
    next[at] = next[right];
    if (next[at] != kEnd) previous[next[at]] = at;
    if (previous[at] != kEnd) push(previous[at]);
    if (next[at] != kEnd) push(at);
  }
  std::erase_if(ids, [](int32_t id) { return id < 0; });
}

}  // namespace hadal
