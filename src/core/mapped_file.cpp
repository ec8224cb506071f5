// MappedFile and the SIGBUS handler that keeps a process alive when a mapped file is cut short.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <system_error>

#include "core/error.h"
#include "core/files.h"

namespace hadal {
namespace {

// The handler may run at any moment in any thread, so it reads atomics only and takes no lock.
// `end` is stored last and cleared first: a slot whose end is 0 is not looked at.
struct Mapping {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> broken{false};
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free);

constexpr size_t kMaxMappings = 4096;

struct Guard {
  std::array<Mapping, kMaxMappings> mappings;
  std::mutex mutex;  // of whoever adds a mapping
  struct sigaction previous {};
  bool installed = false;
};
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
Guard guard;

void pass_on(int signal, siginfo_t* info, void* context) {
  if ((guard.previous.sa_flags & SA_SIGINFO) != 0) {
    guard.previous.sa_sigaction(signal, info, context);
  } else if (guard.previous.sa_handler != SIG_DFL && guard.previous.sa_handler != SIG_IGN) {
    guard.previous.sa_handler(signal);
  } else {
    // Returning repeats the access, which then ends the process as it would have without us.
    ::sigaction(SIGBUS, &guard.previous, nullptr);
  }
}

// Puts zero pages in place of all that is lost, from the fault to the end of its mapping. mmap is a
// plain system call on every kernel we run on, hence safe here.
void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Mapping& mapping : guard.mappings) {
    const uintptr_t end = mapping.end.load(std::memory_order_acquire);
    if (address < mapping.begin.load(std::memory_order_relaxed) || address >= end) continue;
    const uintptr_t page = address & ~(static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE)) - 1);
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    void* from = ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (from == MAP_FAILED) break;
    mapping.broken.store(true, std::memory_order_release);
    errno = saved_errno;
    return;
  }
  errno = saved_errno;
  pass_on(signal, info, context);
}

size_t add_mapping(const std::byte* data, int64_t bytes, const fs::path& path) {
  const std::lock_guard lock(guard.mutex);
  if (!guard.installed) {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigemptyset(&action.sa_mask);
    guard.installed = ::sigaction(SIGBUS, &action, &guard.previous) == 0;
  }
  for (size_t i = 0; i < kMaxMappings; ++i) {
    Mapping& mapping = guard.mappings[i];
    if (mapping.end.load(std::memory_order_relaxed) != 0) continue;
    const auto begin = reinterpret_cast<uintptr_t>(data);
    mapping.broken.store(false, std::memory_order_relaxed);
    mapping.begin.store(begin, std::memory_order_relaxed);
    mapping.end.store(begin + static_cast<uintptr_t>(bytes), std::memory_order_release);
    return i;
  }
  throw Error(ErrorKind::kResource,
              str("cannot map ", path.string(), ": ", kMaxMappings, " files are mapped already"));
}

void remove_mapping(size_t slot) {
  guard.mappings[slot].end.store(0, std::memory_order_release);
}

}  // namespace

MappedFile::MappedFile(InputFile file) : file_(std::move(file)) {
  if (file_.size() == 0) return;
  const auto bytes = static_cast<size_t>(file_.size());
  void* p = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file_.fd(), 0);
  HADAL_CHECK(p != MAP_FAILED, kIo, "cannot map ", path().string(), ": ",
              std::error_code(errno, std::generic_category()).message());
  try {
    slot_ = add_mapping(static_cast<const std::byte*>(p), file_.size(), path());
  } catch (...) {
    ::munmap(p, bytes);
    throw;
  }
  data_ = static_cast<const std::byte*>(p);
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  remove_mapping(slot_);  // first: the addresses may be another mapping's as soon as they are free
  ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(file_.size()));
}

// Within its last page a shortened file reads as zeros without any signal: so ask for its size too.
void MappedFile::check_intact() const {
  const bool broken = data_ != nullptr && guard.mappings[slot_].broken.load();
  const int64_t size = file_.size_now();
  HADAL_CHECK(!broken && size >= file_.size(), kIo, path().string(), " was cut short to ", size,
              " bytes while in use, expected ", file_.size());
}

void read_ahead(std::span<const std::byte> mapped) {
  if (mapped.empty()) return;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t before = reinterpret_cast<uintptr_t>(mapped.data()) % page;
  auto* const begin = const_cast<std::byte*>(mapped.data()) - before;
  ::madvise(begin, mapped.size() + before, MADV_WILLNEED);
}

}  // namespace hadal
