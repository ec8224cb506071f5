#include "core/error.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

TEST(Error, str_joins_parts_of_any_type) {
  EXPECT_EQ(str("rows ", 3, ", ", 2.5, std::string(" x"), 'c'), "rows 3, 2.5 xc");
}

TEST(Error, check_throws_kind_and_message_only_when_false) {
  int evaluated = 0;
  const auto message = [&] { return ++evaluated, "never built when all is well"; };
  HADAL_CHECK(1 + 1 == 2, kShape, message());
  EXPECT_EQ(evaluated, 0);
  EXPECT_ERROR(([] { HADAL_CHECK(false, kConfig, "top-k is ", 9, ", expected at most ", 8); }()),
               kConfig, "top-k is 9, expected at most 8");
}

TEST(Error, is_a_runtime_error_that_keeps_its_kind) {
  try {
    throw Error(ErrorKind::kComm, "rank 3 is gone");
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "rank 3 is gone");
    EXPECT_EQ(dynamic_cast<const Error&>(e).kind(), ErrorKind::kComm);
  }
}

}  // namespace
}  // namespace hadal
