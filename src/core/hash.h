#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/files.h"

namespace hadal {

// XXH64 of bytes that come in pieces: finds damage in files, not forgery.
class Hash64 {
 public:
  explicit Hash64(uint64_t seed = 0);
  void add(std::span<const std::byte> bytes);
  uint64_t value() const;  // of all bytes so far

 private:
  std::array<uint64_t, 4> lanes_;
  std::array<std::byte, 32> rest_{};
  size_t waiting_ = 0;  // bytes in rest_
  uint64_t length_ = 0;
  uint64_t seed_;
};

// Of a whole file; Error{kIo} as InputFile.
uint64_t hash_file(const fs::path& path);
// 16 lower-case hexadecimal digits.
std::string hex64(uint64_t value);

}  // namespace hadal
