#include "core/log.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/testing.h"

namespace hadal {
namespace {

class Log : public testing::Test {
 protected:
  void TearDown() override {
    ::unsetenv("HADAL_LOG");
    spdlog::set_default_logger(before_);
  }
  static spdlog::level::level_enum level_for(const char* text) {
    ::setenv("HADAL_LOG", text, 1);
    init_log();
    return spdlog::default_logger()->level();
  }

 private:
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(Log, the_level_comes_from_the_environment) {
  init_log();
  EXPECT_EQ(spdlog::default_logger()->level(), spdlog::level::info);
  EXPECT_EQ(level_for("trace"), spdlog::level::trace);
  EXPECT_EQ(level_for("debug"), spdlog::level::debug);
  EXPECT_EQ(level_for("warn"), spdlog::level::warn);
  EXPECT_EQ(level_for("error"), spdlog::level::err);
  EXPECT_EQ(level_for("off"), spdlog::level::off);
}

TEST_F(Log, an_unknown_level_is_refused) {
  EXPECT_ERROR(level_for("loud"), kUsage, "HADAL_LOG=loud is unknown; expected trace, debug");
  EXPECT_ERROR(level_for(""), kUsage, "HADAL_LOG= is unknown");
}

TEST_F(Log, messages_go_to_standard_error_alone) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  level_for("warn");
  spdlog::warn("look at {}", 7);
  spdlog::info("not shown");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  const std::string shown = testing::internal::GetCapturedStderr();
  EXPECT_NE(shown.find("warning"), std::string::npos);
  EXPECT_NE(shown.find("look at 7"), std::string::npos);
  EXPECT_EQ(shown.find("not shown"), std::string::npos);
}

}  // namespace
}  // namespace hadal
