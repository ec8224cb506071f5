#pragma once
#include <cstdint>
#include <vector>

#include "text/jinja/program.h"

namespace hadal::jinja {

// A part of an expression, in a flat list where parts stand before the whole.
struct Node {
  enum class Kind {
    kGiven,      // already on the machine's stack
    kConstant,   // value: constant
    kName,       // value: name
    kAttribute,  // value: name
    kOperation,  // op; of its children in order
    kFilter,     // value: arguments, extra: name
    kTest,       // value: arguments, extra: name
    kNotTest,    //
    kCall,       // value: arguments
    kAnd,
    kOr,
    kConditional,  // value if true, condition, value if false (or none)
    kCompare,      // ops: between the children
    kCollection,   // op: kList, kTuple or kDict; value: how many
  };
  Kind kind = Kind::kConstant;
  int32_t line = 0;
  Op op = Op::kEnd;
  int32_t value = 0, extra = 0;
  std::vector<int32_t> children = {};
  std::vector<Op> ops = {};
};

// Writes the code of nodes[root].
void compile_node(const std::vector<Node>& nodes, int32_t root, Builder& builder);

}  // namespace hadal::jinja
