#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace hadal {

void init_log() {
  auto logger = std::make_shared<spdlog::logger>(
      "hadal", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%^%l%$: %v");
  const char* wanted = std::getenv("HADAL_LOG");
  const std::string_view name = wanted == nullptr ? "info" : wanted;
  const auto level = spdlog::level::from_str(name == "warn" ? "warning" : std::string(name));
  HADAL_CHECK(level != spdlog::level::off || name == "off", kUsage, "HADAL_LOG=", name,
              " is unknown; expected trace, debug, info, warn, error or off");
  logger->set_level(level);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace hadal
