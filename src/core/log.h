#pragma once
#include <spdlog/spdlog.h>

namespace hadal {

// Messages for people go to standard error through spdlog's default logger; standard output belongs
// to results. The library logs warnings only (`spdlog::warn`); it never prints.
// Level from HADAL_LOG (trace, debug, info, warn, error, off); an unknown one is Error{kUsage}.
void init_log();

}  // namespace hadal
