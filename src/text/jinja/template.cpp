#include "text/jinja/template.h"

#include "text/jinja/machine.h"
#include "text/jinja/parser.h"

namespace hadal {

struct JinjaTemplate::Impl {
  std::string name;
  jinja::Program program;
};

JinjaTemplate JinjaTemplate::parse(std::string_view source, const std::string& name) {
  return JinjaTemplate(std::make_unique<Impl>(Impl{name, jinja::compile_template(source, name)}));
}

std::string JinjaTemplate::render(const OrderedJson& variables, std::time_t now,
                                  const jinja::Limits& limits) const {
  HADAL_CHECK(variables.is_object(), kFormat, impl_->name,
              ": the variables are no JSON object, expected one");
  return jinja::run_program(impl_->program, impl_->name, variables, limits, now);
}

JinjaTemplate::JinjaTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
JinjaTemplate::JinjaTemplate(JinjaTemplate&&) noexcept = default;
JinjaTemplate& JinjaTemplate::operator=(JinjaTemplate&&) noexcept = default;
JinjaTemplate::~JinjaTemplate() = default;

}  // namespace hadal
