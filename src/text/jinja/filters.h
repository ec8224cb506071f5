#pragma once
#include <span>

#include "text/jinja/library.h"

namespace hadal::jinja {

struct Filter {
  const char* name;
  Value (*call)(Context&, const Value&, const Args&);
};

// Filters of texts and numbers, and of lists and dictionaries.
std::span<const Filter> scalar_filters();
std::span<const Filter> sequence_filters();

}  // namespace hadal::jinja
