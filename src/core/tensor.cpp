#include "core/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace hadal {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kMapFrom = int64_t{1} << 20;  // smaller buffers come from the heap
constexpr int64_t kMaxBytes = int64_t{1} << 60;

}  // namespace

int64_t detail::array_bytes(std::span<const int64_t> shape, size_t element_bytes) {
  auto bytes = static_cast<int64_t>(element_bytes);
  for (int64_t d : shape) {
    const bool fits = d >= 0 && !__builtin_mul_overflow(bytes, d, &bytes) && bytes <= kMaxBytes;
    HADAL_CHECK(fits, kResource, "array: dimension ", d, " of ", shape.size(),
                " is negative or makes it larger than 2^60 bytes");
  }
  return bytes;
}

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  HADAL_CHECK(bytes >= 0 && bytes <= kMaxBytes, kResource, "buffer: asked for ", bytes, " bytes");
  if (bytes >= kMapFrom) {
    const int64_t mapped = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    void* p = ::mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    HADAL_CHECK(p != MAP_FAILED, kResource, "no memory for ", bytes, " bytes");
    ::madvise(p, static_cast<size_t>(mapped), MADV_HUGEPAGE);
    data_ = {static_cast<std::byte*>(p), detail::FreeBytes{mapped}};
    return;
  }
  const size_t rounded = static_cast<size_t>((bytes + 63) / 64 * 64 + 64);
  data_ = {static_cast<std::byte*>(std::aligned_alloc(64, rounded)), detail::FreeBytes{0}};
  HADAL_CHECK(data_ != nullptr, kResource, "no memory for ", bytes, " bytes");
  std::memset(data_.get(), 0, rounded);
}

void detail::FreeBytes::operator()(std::byte* p) const {
  if (mapped > 0) {
    ::munmap(p, static_cast<size_t>(mapped));
  } else {
    std::free(p);  // NOLINT(cppcoreguidelines-owning-memory)
  }
}

}  // namespace hadal
