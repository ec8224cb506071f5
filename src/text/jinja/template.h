#pragma once
#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "core/json.h"
#include "text/jinja/budget.h"

namespace hadal {

// A Jinja template as chat templates use them: set, if, for, macro, filter, with, break, continue,
// generation, raw; expressions whole; the filters, tests and methods that src/text/jinja lists.
// Text is that of Jinja2 with trim_blocks, lstrip_blocks and Python's values, as Hugging Face sets
// it up.
//
// Errors    parse and render: Error{kFormat}, "NAME: line 3: ..." with what was expected. A
// template
//           that takes too many steps, makes too much or nests too deep ends in one, too.
// Threads   one template may be rendered by any number of threads at once.
class JinjaTemplate {
 public:
  static JinjaTemplate parse(std::string_view source, const std::string& name);

  // `variables` is an object; `now` is what strftime_now() says.
  std::string render(const OrderedJson& variables, std::time_t now = std::time(nullptr),
                     const jinja::Limits& limits = {}) const;

  JinjaTemplate(JinjaTemplate&&) noexcept;
  JinjaTemplate& operator=(JinjaTemplate&&) noexcept;
  ~JinjaTemplate();

 private:
  struct Impl;
  explicit JinjaTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
