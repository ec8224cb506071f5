#pragma once
#include "text/jinja/program.h"
#include "text/jinja/token_stream.h"

namespace hadal::jinja {

struct ExpressionOptions {
  bool tuple = true;        // "a, b" without brackets is a tuple
  bool conditional = true;  // "a if b else c"; without, `if` ends the expression
};

// Reads one expression and writes the code that pushes its value. Operators wait on a stack of
// their own, so nesting costs memory and no recursion.
void compile_expression(TokenStream& tokens, Builder& builder, ExpressionOptions options = {});

// Reads "| a | b(...)" for the value that the code before has pushed; nothing where there is none.
void compile_filters(TokenStream& tokens, Builder& builder);
// The same for "a | b(...)", as {% filter %} has it.
void compile_named_filters(TokenStream& tokens, Builder& builder);

}  // namespace hadal::jinja
