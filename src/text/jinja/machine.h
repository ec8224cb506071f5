#pragma once
#include <string>

#include "core/json.h"
#include "text/jinja/library.h"

namespace hadal::jinja {

// Runs a program. Error{kFormat}: "NAME: line 3: ...".
std::string run_program(const Program& program, const std::string& name,
                        const OrderedJson& variables, const Limits& limits, std::time_t now);

}  // namespace hadal::jinja
