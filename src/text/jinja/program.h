#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/jinja/value.h"

namespace hadal::jinja {

// A template compiled for a stack machine: whatever its nesting, running it needs no recursion.
// In comments: a and b are the operands of the instruction, "pops x y" has y on top.
enum class Op : uint8_t {
  kText,        // a: constant, printed
  kPrint,       // pops a value
  kConstant,    // a: constant, pushed
  kLoad,        // a: name, pushed
  kStore,       // a: name, pops its value
  kStoreField,  // a: name of a namespace, b: name of its field, pops the value
  kUnpack,      // a: number of items; pops a sequence, pushes them, the first on top
  kAttribute,   // a: name, pops the object
  kItem,        // pops object, key
  kSlice,       // pops object, begin, end, step
  kCall,        // a: arguments; pops callee and arguments
  kFilter,      // a: arguments, b: name; pops value and arguments
  kTest,        // a: arguments, b: name; pops value and arguments
  kNegate,      // and the other unary and binary operators
  kPlus,
  kNot,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kConcat,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
  kChain,        // a: label, b: comparison; pops x y; pushes y, or false and jumps
  kList,         // a: number of items
  kTuple,        // a: number of items
  kDict,         // a: number of pairs
  kJump,         // a: label
  kJumpIfFalse,  // a: label; pops
  kFalseOrPop,   // a: label; jumps when the value is false, else pops it: `and`
  kTrueOrPop,    // a: label; `or`
  kForBegin,     // pops what to iterate over, opens a scope
  kForNext,      // a: label of the end; pushes the next item
  kForEnd,       // a: label after the else branch, taken when there was an item
  kFilterBegin,  // pops what to choose from, opens a scope
  kFilterNext,   // a: label of the end; pushes the next item
  kFilterKeep,   // pops whether to keep it
  kFilterEnd,    // pushes the list of those kept
  kScopeBegin,
  kScopeEnd,
  kCaptureBegin,  // what is printed goes into a string
  kCaptureEnd,    // pushes it
  kCaptureDrop,
  kMacro,    // a: macro, stored under the name b
  kDefault,  // a: number of the parameter, b: label; jumps when it was given
  kReturn,   // from a macro
  kEnd,
};

struct Instruction {
  Op op;
  int32_t a = 0, b = 0;
  int32_t line = 0;
};

struct ArgSpec {
  int32_t positional = 0;
  std::vector<std::string> named;  // after those
};

struct Macro {
  std::string name;
  int32_t entry = 0;
  std::vector<int32_t> parameters;  // names
};

struct Program {
  std::vector<Instruction> code;
  std::vector<Value> constants;
  std::vector<std::string> names;
  std::vector<ArgSpec> args;
  std::vector<Macro> macros;
};

// Writes a program; labels are numbers given out before their place is known.
class Builder {
 public:
  void emit(Op op, int32_t line, int32_t a = 0, int32_t b = 0) {
    program_.code.push_back({op, a, b, line});
  }
  int32_t name(const std::string& text) {
    const auto [at, added] = ids_.emplace(text, static_cast<int32_t>(program_.names.size()));
    if (added) program_.names.push_back(text);
    return at->second;
  }
  int32_t constant(Value value) {
    program_.constants.push_back(std::move(value));
    return static_cast<int32_t>(program_.constants.size()) - 1;
  }
  int32_t text(const std::string& text) {
    return constant({std::make_shared<const std::string>(text)});
  }
  int32_t args(ArgSpec spec) {
    program_.args.push_back(std::move(spec));
    return static_cast<int32_t>(program_.args.size()) - 1;
  }
  int32_t macro(Macro macro) {
    program_.macros.push_back(std::move(macro));
    return static_cast<int32_t>(program_.macros.size()) - 1;
  }
  void set_macro(int32_t number, Macro macro) {
    program_.macros[static_cast<size_t>(number)] = std::move(macro);
  }
  int32_t here() const { return static_cast<int32_t>(program_.code.size()); }
  int32_t label() {
    places_.push_back(-1);
    return static_cast<int32_t>(places_.size()) - 1;
  }
  void bind(int32_t label) { places_[static_cast<size_t>(label)] = here(); }
  // Puts places for labels.
  Program finish();

 private:
  Program program_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> places_;
};

}  // namespace hadal::jinja
