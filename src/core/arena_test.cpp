#include "core/arena.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/testing.h"

namespace hadal {
namespace {

TEST(Arena, hands_out_aligned_memory_that_does_not_overlap) {
  Arena arena(1024);
  std::vector<Out1> parts;
  for (int64_t n : {1, 7, 16, 100, 1000, 3, 5000}) {  // in and beyond a chunk
    parts.push_back(arena.floats(n));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(parts.back().data()) % 64, 0u);
    std::fill_n(parts.back().data(), n, float(parts.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    for (int64_t k = 0; k < parts[i].dim(0); ++k) ASSERT_EQ(parts[i].data()[k], float(i + 1));
  }
}

TEST(Arena, a_scope_gives_back_what_was_taken_in_it_and_only_that) {
  Arena arena(4096);
  const Out1 kept = arena.floats(16);
  const int64_t before = arena.used();
  EXPECT_EQ(before, 64);
  const float* first = nullptr;
  {
    const Arena::Scope scope(arena);
    first = arena.floats(32).data();
    (void)arena.floats(100'000);  // another chunk
    EXPECT_GT(arena.used(), 400'000);
  }
  EXPECT_EQ(arena.used(), before);
  EXPECT_EQ(arena.floats(32).data(), first) << "the same place again";
  EXPECT_EQ(first, kept.data() + 16);
}

TEST(Arena, takes_one_chunk_after_a_reset) {
  Arena arena(1024);
  for (int i = 0; i < 3; ++i) (void)arena.floats(200);
  arena.reset();
  const float* first = arena.floats(200).data();
  EXPECT_EQ(arena.floats(200).data(), first + 208);
  EXPECT_EQ(arena.floats(200).data(), first + 416);
  EXPECT_EQ(arena.peak(), 3 * 208 * 4);
}

TEST(Arena, scopes_nest) {
  Arena arena(256);
  const Arena::Scope outer(arena);
  (void)arena.floats(64);
  for (int pass = 0; pass < 3; ++pass) {
    const Arena::Scope inner(arena);
    (void)arena.floats(1000);
    EXPECT_EQ(arena.used(), 256 + 4032);
  }
  EXPECT_EQ(arena.used(), 256);
}

TEST(Arena, the_peak_is_the_most_that_was_in_use_at_once) {
  Arena arena(1024);
  {
    const Arena::Scope scope(arena);
    (void)arena.floats(160);
  }
  (void)arena.floats(16);
  EXPECT_EQ(arena.used(), 64);
  EXPECT_EQ(arena.peak(), 640);
  arena.reset();
  EXPECT_EQ(arena.used(), 0);
  EXPECT_EQ(arena.peak(), 640);
}

TEST(Arena, needs_no_new_memory_after_the_second_pass) {
  Arena arena(1024);
  std::vector<float*> first, second, third;
  for (std::vector<float*>* pass : {&first, &second, &third}) {
    arena.reset();
    for (int64_t n : {10, 300, 20, 5000, 1}) pass->push_back(arena.floats(n).data());
  }
  EXPECT_EQ(second, third);
}

TEST(Arena, zeros_clears_memory_that_was_used_before) {
  Arena arena(1024);
  const Out2 used = arena.floats(3, 5);
  std::fill_n(used.data(), 15, 1.f);
  arena.reset();
  const Out2 clean = arena.zeros(3, 5);
  EXPECT_EQ(clean.data(), used.data());
  EXPECT_TRUE(std::all_of(clean.data(), clean.data() + 15, [](float x) { return x == 0; }));
}

TEST(Arena, makes_any_type_and_refuses_sizes_that_overflow) {
  Arena arena;
  EXPECT_EQ(arena.make<int64_t>(3).dim(0), 3);
  EXPECT_EQ(arena.make<bf16>(3, 4).size(), 12);
  EXPECT_NE(arena.floats(0).data(), nullptr);
  EXPECT_ERROR(arena.floats(-1), kResource, "dimension -1");
  EXPECT_ERROR(arena.floats(int64_t{1} << 33, int64_t{1} << 33), kResource, "larger than 2^60");
}

}  // namespace
}  // namespace hadal
