#pragma once
#include <string>
#include <string_view>

#include "text/jinja/program.h"

namespace hadal::jinja {

// Compiles a template. Error{kFormat}: "NAME: line 3: found 'x', expected ...".
Program compile_template(std::string_view source, const std::string& name);

}  // namespace hadal::jinja
