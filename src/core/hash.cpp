#include "core/hash.h"

#include <bit>
#include <cstring>
#include <vector>

namespace hadal {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87u, kPrime2 = 0xC2B2AE3D27D4EB4Fu,
                   kPrime3 = 0x165667B19E3779F9u, kPrime4 = 0x85EBCA77C2B2AE63u,
                   kPrime5 = 0x27D4EB2F165667C5u;

uint64_t load64(const std::byte* p) {
  uint64_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}

uint32_t load32(const std::byte* p) {
  uint32_t v = 0;
  std::memcpy(&v, p, sizeof v);
  return v;
}

uint64_t round(uint64_t lane, uint64_t input) {
  return std::rotl(lane + input * kPrime2, 31) * kPrime1;
}

void mix(std::array<uint64_t, 4>& lanes, const std::byte* block) {
  for (size_t i = 0; i < 4; ++i) lanes[i] = round(lanes[i], load64(block + 8 * i));
}

}  // namespace

Hash64::Hash64(uint64_t seed)
    : lanes_{seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1}, seed_(seed) {
}

void Hash64::add(std::span<const std::byte> bytes) {
  length_ += bytes.size();
  const std::byte* p = bytes.data();
  size_t left = bytes.size();
  if (waiting_ > 0) {
    const size_t take = std::min(rest_.size() - waiting_, left);
    std::memcpy(rest_.data() + waiting_, p, take);
    waiting_ += take;
    p += take;
    left -= take;
    if (waiting_ < rest_.size()) return;
    mix(lanes_, rest_.data());
    waiting_ = 0;
  }
  for (; left >= rest_.size(); p += rest_.size(), left -= rest_.size()) mix(lanes_, p);
  if (left > 0) std::memcpy(rest_.data(), p, left);
  waiting_ = left;
}

uint64_t Hash64::value() const {
  uint64_t h = seed_ + kPrime5;
  if (length_ >= rest_.size()) {
    h = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
        std::rotl(lanes_[3], 18);
    for (const uint64_t lane : lanes_) h = (h ^ round(0, lane)) * kPrime1 + kPrime4;
  }
  h += length_;
  const std::byte* p = rest_.data();
  const std::byte* end = p + waiting_;
  for (; end - p >= 8; p += 8) h = std::rotl(h ^ round(0, load64(p)), 27) * kPrime1 + kPrime4;
  if (end - p >= 4) {
    h = std::rotl(h ^ (load32(p) * kPrime1), 23) * kPrime2 + kPrime3;
    p += 4;
  }
  for (; p < end; ++p) h = std::rotl(h ^ (std::to_integer<uint64_t>(*p) * kPrime5), 11) * kPrime1;
  h = (h ^ (h >> 33)) * kPrime2;
  h = (h ^ (h >> 29)) * kPrime3;
  return h ^ (h >> 32);
}

uint64_t hash_file(const fs::path& path) {
  const InputFile file(path);
  Hash64 hash;
  std::vector<std::byte> piece(size_t{1} << 20);
  for (int64_t at = 0; at < file.size();) {
    const auto n = std::min<size_t>(piece.size(), static_cast<size_t>(file.size() - at));
    file.read_at(at, std::span(piece).first(n));
    hash.add(std::span(piece).first(n));
    at += static_cast<int64_t>(n);
  }
  return hash.value();
}

std::string hex64(uint64_t value) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (size_t i = 0; i < 16; ++i) text[15 - i] = kDigits[(value >> (4 * i)) & 15u];
  return text;
}

}  // namespace hadal
