#include "text/jinja/machine.h"

#include <algorithm>
#include <optional>

namespace hadal::jinja {
namespace {

class Machine {
 public:
  Machine(const Program& program, const OrderedJson& variables, const Limits& limits,
          std::time_t now)
      : program_(program), context_{Budget(limits), now} {
    for (const std::string& name : program.names) {
      std::optional<Value>& value = globals_.emplace_back();
      if (const auto found = variables.find(name); found != variables.end()) {
        value = from_json(*found, context_.budget);
      } else if (const Function* function = find_function(name)) {
        value = Value{function};
      }
    }
    loop_name_ = static_cast<int32_t>(
        std::find(program.names.begin(), program.names.end(), "loop") - program.names.begin());
    scopes_.push_back({{}, -1});
    out_.emplace_back();
  }

  std::string run(const std::string& name) {
    try {
      while (program_.code[at_].op != Op::kEnd) {
        context_.budget.spend(1);
        const Instruction& i = program_.code[at_++];
        execute(i);
      }
    } catch (const Error& e) {
      const size_t at = std::min(at_ == 0 ? 0 : at_ - 1, program_.code.size() - 1);
      throw Error(ErrorKind::kFormat, str(name, ": line ", program_.code[at].line, ": ", e.what()));
    }
    return std::move(out_.back());
  }

 private:
  struct Scope {
    std::vector<std::pair<int32_t, Value>> variables;
    int32_t parent;
  };
  struct Round {  // of a for loop or of a choice among items
    std::shared_ptr<Loop> loop;
    std::vector<Value> kept = {};
  };
  struct Call {
    size_t return_to, scopes, rounds, outputs;
    int32_t scope;
    std::vector<bool> given;  // parameters
  };

  Value pop() {
    Value value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }
  void push(Value value) { stack_.push_back(std::move(value)); }
  const std::string& name(int32_t number) const {
    return program_.names[static_cast<size_t>(number)];
  }
  void jump(int32_t to) { at_ = static_cast<size_t>(to); }

  void execute(const Instruction& i) {
    if (i.op <= Op::kTest) return execute_value(i);
    if (i.op <= Op::kNot) return push(unary(context_, i.op, pop()));
    if (i.op <= Op::kNotIn) {
      const Value b = pop(), a = pop();
      return push(binary(context_, i.op, a, b));
    }
    if (i.op <= Op::kTrueOrPop) return execute_branch(i);
    execute_block(i);
  }

  void execute_value(const Instruction& i) {
    switch (i.op) {
      case Op::kText:
        return print(program_.constants[static_cast<size_t>(i.a)]);
      case Op::kPrint:
        return print(pop());
      case Op::kConstant:
        return push(program_.constants[static_cast<size_t>(i.a)]);
      case Op::kLoad:
        return push(load(i.a));
      case Op::kStore:
        return store(i.a, pop());
      case Op::kStoreField:
        return store_field(i);
      case Op::kUnpack:
        return unpack(i.a);
      case Op::kAttribute:
        return push(get_attribute(context_, pop(), name(i.a)));
      case Op::kItem: {
        const Value key = pop(), object = pop();
        return push(get_item(context_, object, key));
      }
      case Op::kSlice: {
        const Value step = pop(), end = pop(), begin = pop(), object = pop();
        return push(slice(context_, object, begin, end, step));
      }
      case Op::kCall:
        return call(take_args(i.a));
      case Op::kFilter: {
        const Args args = take_args(i.a);
        return push(call_filter(context_, name(i.b), pop(), args));
      }
      default: {
        const Args args = take_args(i.a);
        return push({call_test(context_, name(i.b), pop(), args)});
      }
    }
  }

  void execute_branch(const Instruction& i) {
    switch (i.op) {
      case Op::kChain: {
        Value b = pop();
        const Value a = pop();
        const bool holds = truth(binary(context_, static_cast<Op>(i.b), a, b));
        push(holds ? std::move(b) : Value{false});
        return holds ? void() : jump(i.a);
      }
      case Op::kList:
        return push(make_list(pop_many(i.a), context_.budget));
      case Op::kTuple:
        return push(make_list(pop_many(i.a), context_.budget, Sequence::Kind::kTuple));
      case Op::kDict: {
        std::vector<Value> items = pop_many(2 * i.a);
        std::vector<std::pair<Value, Value>> pairs;
        for (size_t k = 0; k < items.size(); k += 2) {
          pairs.emplace_back(std::move(items[k]), std::move(items[k + 1]));
        }
        return push(make_dict_from_pairs(std::move(pairs), context_.budget));
      }
      case Op::kJump:
        return jump(i.a);
      case Op::kJumpIfFalse:
        return truth(pop()) ? void() : jump(i.a);
      default:
        if (truth(stack_.back()) == (i.op == Op::kTrueOrPop)) return jump(i.a);
        stack_.pop_back();
    }
  }

  void execute_block(const Instruction& i) {
    switch (i.op) {
      case Op::kForBegin:
      case Op::kFilterBegin:
        return begin_round();
      case Op::kForNext:
      case Op::kFilterNext:
        return next_item(i);
      case Op::kForEnd: {
        const bool any = rounds_.back().loop->index >= 0;
        end_round();
        return any ? jump(i.a) : void();
      }
      case Op::kFilterKeep: {
        const Loop& loop = *rounds_.back().loop;
        if (!truth(pop())) return;
        return rounds_.back().kept.push_back(loop.items->items[static_cast<size_t>(loop.index)]);
      }
      case Op::kFilterEnd: {
        std::vector<Value> kept = std::move(rounds_.back().kept);
        end_round();
        return push(make_list(std::move(kept), context_.budget));
      }
      case Op::kScopeBegin:
        return open_scope(scope_);
      case Op::kScopeEnd:
        return close_scope();
      case Op::kCaptureBegin:
        out_.emplace_back();
        return;
      case Op::kCaptureEnd:
        return end_capture();
      case Op::kCaptureDrop:
        return out_.pop_back();
      case Op::kMacro:
        return store(i.b, {MacroId{i.a}});
      case Op::kDefault:
        return calls_.back().given[static_cast<size_t>(i.a)] ? jump(i.b) : void();
      default:
        return end_call();
    }
  }

  void print(const Value& value) {
    std::string& out = out_.back();
    append_str(out, value, context_.budget);
    const int64_t most = context_.budget.limits().output_bytes;
    HADAL_CHECK(out.size() <= static_cast<size_t>(most), kFormat, "the text is longer than ", most,
                " bytes, expected a shorter one");
  }

  void end_capture() {
    std::string text = std::move(out_.back());
    out_.pop_back();
    push(make_string(std::move(text), context_.budget));
  }

  Value load(int32_t number) {
    for (int32_t scope = scope_; scope >= 0; scope = scopes_[size_t(scope)].parent) {
      context_.budget.spend(1);
      for (const auto& [key, value] : scopes_[size_t(scope)].variables) {
        if (key == number) return value;
      }
    }
    if (const auto& global = globals_[size_t(number)]) return *global;
    return undefined(str("'", name(number), "' is undefined"));
  }

  void store(int32_t number, Value value) {
    auto& variables = scopes_[size_t(scope_)].variables;
    context_.budget.spend(1 + static_cast<int64_t>(variables.size() / 8));
    for (auto& [key, old] : variables) {
      if (key == number) {
        old = std::move(value);
        return;
      }
    }
    variables.emplace_back(number, std::move(value));
  }

  void store_field(const Instruction& i) {
    Value value = pop();
    const Value object = load(i.a);
    const auto* id = object.get<NamespaceId>();
    HADAL_CHECK(id != nullptr, kFormat, "cannot set a field of ", name(i.a), ", of type ",
                type_name(object), ": expected a namespace");
    HADAL_CHECK(name(i.b)[0] != '_', kFormat, "the field ", name(i.b),
                " of a namespace begins with _, expected another name");
    auto& fields = context_.namespaces[size_t(id->id)];
    context_.budget.spend(1 + static_cast<int64_t>(fields.size() / 8));
    for (auto& [key, old] : fields) {
      if (key == name(i.b)) {
        old = std::move(value);
        return;
      }
    }
    fields.emplace_back(name(i.b), std::move(value));
  }

  void unpack(int32_t count) {
    const Value value = pop();
    require_defined(value);
    const SequencePtr items = iterate(value, context_.budget);
    HADAL_CHECK(items->items.size() == static_cast<size_t>(count), kFormat, "a value of ",
                items->items.size(), " items for ", count, " names, expected as many");
    for (int32_t k = count - 1; k >= 0; --k) push(items->items[size_t(k)]);
  }

  std::vector<Value> pop_many(int32_t count) {
    const auto first = stack_.end() - count;
    std::vector<Value> items(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
    stack_.erase(first, stack_.end());
    return items;
  }

  Args take_args(int32_t number) {
    const ArgSpec& spec = program_.args[static_cast<size_t>(number)];
    Args args;
    std::vector<Value> named = pop_many(static_cast<int32_t>(spec.named.size()));
    for (size_t k = 0; k < named.size(); ++k) args.named.emplace_back(spec.named[k], named[k]);
    args.positional = pop_many(spec.positional);
    return args;
  }

  void call(const Args& args) {
    const Value callee = pop();
    require_defined(callee);
    if (const auto* function = callee.get<const Function*>()) {
      push((*function)->call(context_, args));
    } else if (const auto* method = callee.get<MethodPtr>()) {
      push(call_method(context_, **method, args));
    } else {
      const auto* macro = callee.get<MacroId>();
      HADAL_CHECK(macro != nullptr, kFormat, "a value of type ", type_name(callee),
                  " is called, expected a function, a method or a macro");
      call_macro(program_.macros[size_t(macro->id)], args);
    }
  }

  void call_macro(const Macro& macro, const Args& args) {
    const int64_t most = context_.budget.limits().macro_depth;
    HADAL_CHECK(static_cast<int64_t>(calls_.size()) < most, kFormat,
                "macros call each other more than ", most, " deep, expected fewer");
    HADAL_CHECK(args.positional.size() <= macro.parameters.size(), kFormat, "macro ", macro.name,
                " is given ", args.positional.size(), " arguments, expected at most ",
                macro.parameters.size());
    Call frame{at_, scopes_.size(), rounds_.size(), out_.size(), scope_, {}};
    frame.given.resize(macro.parameters.size());
    open_scope(0);
    for (size_t k = 0; k < macro.parameters.size(); ++k) {
      const std::string& parameter = name(macro.parameters[k]);
      const auto named = std::find_if(args.named.begin(), args.named.end(),
                                      [&](const auto& each) { return each.first == parameter; });
      frame.given[k] = k < args.positional.size() || named != args.named.end();
      HADAL_CHECK(k >= args.positional.size() || named == args.named.end(), kFormat, "macro ",
                  macro.name, " is given ", parameter, " twice, expected it once");
      store(macro.parameters[k],
            k < args.positional.size() ? args.positional[k]
            : named != args.named.end()
                ? named->second
                : undefined(str("parameter '", parameter, "' was not provided")));
    }
    for (const auto& argument : args.named) {
      const auto& given = argument.first;
      const bool known = std::any_of(macro.parameters.begin(), macro.parameters.end(),
                                     [&](int32_t each) { return name(each) == given; });
      HADAL_CHECK(known, kFormat, "macro ", macro.name, " has no parameter ", given);
    }
    calls_.push_back(std::move(frame));
    out_.emplace_back();
    jump(macro.entry);
  }

  void end_call() {
    const Call frame = std::move(calls_.back());
    calls_.pop_back();
    end_capture();
    scopes_.resize(frame.scopes, {{}, -1});
    rounds_.resize(frame.rounds);
    scope_ = frame.scope;
    at_ = frame.return_to;
  }

  void open_scope(int32_t parent) {
    scopes_.push_back({{}, parent});
    scope_ = static_cast<int32_t>(scopes_.size()) - 1;
  }
  void close_scope() {
    scope_ = scopes_.back().parent;
    scopes_.pop_back();
  }

  void begin_round() {
    const Value value = pop();
    auto loop = std::make_shared<Loop>();
    loop->items = iterate(value, context_.budget);
    context_.budget.make(sizeof(Loop));
    rounds_.push_back({std::move(loop)});
    open_scope(scope_);
  }

  // A round of its own: what the one before has set is gone.
  void next_item(const Instruction& i) {
    Loop& loop = *rounds_.back().loop;
    if (loop.index + 1 >= static_cast<int64_t>(loop.items->items.size())) return jump(i.a);
    ++loop.index;
    scopes_[size_t(scope_)].variables.clear();
    if (i.op == Op::kForNext && loop_name_ < static_cast<int32_t>(program_.names.size())) {
      store(loop_name_, {LoopPtr(rounds_.back().loop)});
    }
    push(loop.items->items[static_cast<size_t>(loop.index)]);
  }

  void end_round() {
    rounds_.pop_back();
    close_scope();
  }

  const Program& program_;
  Context context_;
  std::vector<std::optional<Value>> globals_;  // by name
  int32_t loop_name_ = 0;
  size_t at_ = 0;
  std::vector<Value> stack_;
  std::vector<Scope> scopes_;
  int32_t scope_ = 0;
  std::vector<Round> rounds_;
  std::vector<Call> calls_;
  std::vector<std::string> out_;  // the last is printed to
};

}  // namespace

std::string run_program(const Program& program, const std::string& name,
                        const OrderedJson& variables, const Limits& limits, std::time_t now) {
  return Machine(program, variables, limits, now).run(name);
}

}  // namespace hadal::jinja
