#!/usr/bin/env python3
"""Compares `hadal template` with Jinja2, set up as Hugging Face's apply_chat_template does it.

  python3 tools/check_template.py HADAL [--seed S] [--cases N]   generated templates, then those below
  python3 tools/check_template.py --write FILE                   the golden file of template_test.cpp

A case is {"template", "variables", "text"}, or with "error": true instead of the text. Exit 77
without jinja2.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    print("skipped: no module jinja2")
    sys.exit(77)

VARIABLES = {
    "messages": [
        {"role": "system", "content": " Be kind. "},
        {"role": "user", "content": "Hi \u00e9\u4e2d <b>&\n"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": [True, None, 1.5]}}}]},
    ],
    "add_generation_prompt": True,
    "tools": [{"name": "f", "parameters": {"x": {"type": "string"}, "b": {}}}, {"name": "g"}],
    "s": "Hello, W\u00f6rld", "t": "  a,b,,c  ", "e": "", "q": "it's \"q\"\t\\\u200b",
    "n": 7, "m": -3, "z": 0, "x": 2.5, "big": 1e22, "tiny": 1e-7, "yes": True, "no": False, "nil": None,
    "l": [3, 1, 2], "w": ["b", "A", "c"], "mixed": [1, "a", None, True, 2.0, [1], {"k": 1}], "empty": [],
    "d": {"one": 1, "two": "zwei", "items2": [1, 2]}, "rows": [{"k": "x", "v": 2}, {"k": "y", "v": 1}, {"k": "X"}],
}


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _run(self, context, caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


ENV = environment()


def expected(template):
    try:
        return {"text": ENV.from_string(template).render(**json.loads(json.dumps(VARIABLES)), documents=None)}
    except Exception:  # whatever Python raises is an error here too
        return {"error": True}


class Generator:
    """Random templates of the subset, most of them meaningful."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def string(self, depth):
        r = self.r
        if depth <= 0 or r.random() < 0.2:
            return r.choice(["s", "t", "e", "q", "'a'", "\"b\\n\"", "' x '", "messages[0].content", "d.two",
                             "d['two']", "messages[1]['role']", "'\\u00e9'"])
        a = self.string(depth - 1)
        return r.choice([
            f"{a} + {self.string(depth - 1)}", f"{a} ~ {self.any(depth - 1)}", f"({a}){self.slice()}",
            f"({a}).{r.choice(['strip', 'lstrip', 'rstrip', 'upper', 'lower', 'title', 'capitalize', 'swapcase'])}()",
            f"({a}).replace({self.string(0)}, {self.string(0)})", f"({a}).split(',')[0]",
            f"({a}) | {r.choice(['trim', 'upper', 'lower', 'title', 'capitalize', 'string', 'reverse', 'indent', 'indent(2, true)'])}",
            f"({a}) | replace('l', {self.string(0)})", f"({self.list(depth - 1)}) | join({self.string(0)})",
            f"({self.any(depth - 1)}) | tojson", f"({self.any(depth - 1)}) | tojson(indent=2)",
            f"({a}) * {r.choice([0, 1, 2, -1])}", f"({a}) if {self.test(depth - 1)} else ({self.string(depth - 1)})",
            f"({a}).strip({self.string(0)})", f"({a}).removeprefix('H')", f"({a}).center(11, '*')",
            f"({a}) | truncate(6, {r.choice(['true', 'false'])}, '..', 0)", f"({a})[{r.choice([0, 1, -1])}]"])

    def slice(self):
        part = lambda: self.r.choice(["", "", "0", "1", "-1", "2", "-3", "9"])
        step = self.r.choice(["", "", ":", ":1", ":2", ":-1", ":-2"])
        return f"[{part()}:{part()}{step}]"

    def number(self, depth):
        r = self.r
        if depth <= 0 or r.random() < 0.2:
            return r.choice(["n", "m", "z", "x", "1", "2", "10", "0.5", "1e3", "yes", "big", "tiny", "d.one", "-n", "0x1f", "1_000"])
        a, b = self.number(depth - 1), self.number(depth - 1)
        return r.choice([
            f"({a} {r.choice(['+', '-', '*', '/', '//', '%'])} {b})", f"({a}) | abs", f"({a}) | int", f"({a}) | float",
            f"({self.string(depth - 1)}) | length", f"({self.list(depth - 1)}) | length", f"({a}) | round({r.choice(['', '1', '2'])})",
            f"({self.string(0)}).find('l')", f"({self.string(0)}).count('l')", "l | sum", "l | max", "w | length",
            f"(2 ** {r.choice(['0', '3', '-1', 'x'])})", f"-{r.choice(['n', 'x', '2'])} ** 2", "'12' | int", "'1.5e1' | float", "'q' | int(5)"])

    def list(self, depth):
        r = self.r
        if depth <= 0 or r.random() < 0.2:
            return r.choice(["l", "w", "mixed", "empty", "[1, 2]", "(1, 2)", "()", "(1,)", "range(3) | list", "s | list", "d | list", "['a', 'b',]"])
        a = self.list(depth - 1)
        return r.choice([
            f"({a}){self.slice()}", f"({a}) | list", f"({a}) | reverse | list", f"[{self.any(depth - 1)}, {self.any(depth - 1)}]",
            f"({self.string(depth - 1)}).split({r.choice(['', ', ', chr(39) + 'l' + chr(39)]).strip().strip(',')})",
            "rows | map(attribute='k') | list", "rows | map(attribute='v', default=0) | list",
            "rows | selectattr('v') | map(attribute='k') | list", "rows | selectattr('v', 'defined') | list",
            f"rows | {r.choice(['selectattr', 'rejectattr'])}('k', 'equalto', 'x') | list", "w | map('upper') | list",
            f"mixed | {r.choice(['select', 'reject'])}('{r.choice(['string', 'number', 'none', 'mapping', 'defined'])}') | list",
            f"{r.choice(['w', 'l'])} | sort{r.choice(['', '(reverse=true)', '(case_sensitive=true)'])}", "rows | sort(attribute='k')",
            f"({a}) | unique | list", "d.items() | list", "d.keys() | list", "d | dictsort", "d | items | list", "d.values() | list",
            "t.rsplit(',', 1)", "q.splitlines()", "s.partition(',')", "range(5, 0, -2) | list", "[l, w] | map('first') | list"])

    def test(self, depth):
        r = self.r
        if depth <= 0 or r.random() < 0.2:
            return r.choice(["yes", "no", "nil", "missing", "s", "e", "l", "empty", "n", "z", "add_generation_prompt"])
        a, b = self.any(depth - 1), self.any(depth - 1)
        name = r.choice(["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "iterable",
                         "sequence", "true", "false", "callable", "upper", "lower"])
        return r.choice([
            f"({a}) is {r.choice(['', 'not '])}{name}", f"{self.test(depth - 1)} and {self.test(depth - 1)}",
            f"{self.test(depth - 1)} or {self.test(depth - 1)}", f"not {self.test(depth - 1)}", f"({a}) == ({b})", f"({a}) != ({b})",
            f"{self.number(depth - 1)} {r.choice(['<', '<=', '>', '>='])} {self.number(depth - 1)}", f"1 < {self.number(0)} <= 7",
            f"{self.string(0)} {r.choice(['in', 'not in'])} {self.string(depth - 1)}", f"({self.any(0)}) in ({self.list(depth - 1)})",
            f"{r.choice(['n', 'm', 'z'])} is {r.choice(['odd', 'even', 'divisibleby 3', 'divisibleby(2)', 'eq 7', 'gt(1)', 'in [7, 0]'])}",
            f"({self.string(0)}).{r.choice(['startswith', 'endswith'])}({self.string(0)})", "'one' in d", "missing is defined", "d.nope is defined",
            "messages[0].nope is none", f"({self.string(0)}).{r.choice(['isdigit', 'isalpha', 'isupper', 'islower', 'isspace', 'isalnum'])}()"])

    def any(self, depth):
        r = self.r
        return r.choice([self.string, self.number, self.list, self.test,
                         lambda d: r.choice(["d", "nil", "missing", "mixed", "rows", "{'a': 1, 2: s}", "d.get('one')", "d.get('no', 5)",
                                             "tools[0]", "messages[-1]['tool_calls'][0]['function']['arguments']", "dict(a=1, b=s)"])])(depth)

    def space(self):
        return self.r.choice(["", "", " ", "\n", "\n  ", "text ", "\t\n"])

    def body(self, depth):
        return "".join(self.space() + self.statement(depth) for _ in range(self.r.randint(1, 3))) + self.space()

    def tag(self, text):
        return "{%" + self.r.choice(["", "", "-", "+"]) + f" {text} " + self.r.choice(["", "", "-", "+"]) + "%}"

    def statement(self, depth):
        r, tag = self.r, self.tag
        if depth <= 0 or r.random() < 0.4:
            return "{{" + r.choice(["", "-"]) + " " + self.any(2) + " " + r.choice(["", "-"]) + "}}"
        return r.choice([
            lambda: tag(f"if {self.test(2)}") + self.body(depth - 1) + r.choice(["", tag(f"elif {self.test(1)}") + self.body(0)]) +
            r.choice(["", tag("else") + self.body(depth - 1)]) + tag("endif"),
            lambda: tag(f"for i in {self.list(1)}" + r.choice(["", f" if {r.choice(['i', 'i is string', 'i is number', 'i == 1'])}"])) + self.body(depth - 1) +
            "{{ i }}" + r.choice(["", "{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.revindex0 }}",
                                  "{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.depth }}"]) +
            r.choice(["", tag("if loop.index == 2") + tag(r.choice(["break", "continue"])) + tag("endif")]) + ";" +
            r.choice(["", tag("else") + self.body(0)]) + tag("endfor"),
            lambda: tag(f"set v = {self.any(2)}") + "{{ v }}", lambda: tag("set v") + self.body(depth - 1) + tag("endset") + "{{ v | length }}",
            lambda: tag("for k, v in d.items()") + "{{ k }}={{ v }}" + tag("set n = k") + tag("endfor") + "{{ n }}",
            lambda: tag("set ns = namespace(a=1)") + tag(f"for i in {self.list(1)}") + tag("set ns.a = ns.a + 1") + tag("endfor") + "{{ ns.a }}",
            lambda: tag("generation") + self.body(depth - 1) + tag("endgeneration"), lambda: "{#" + r.choice(["", "-"]) + " x " + r.choice(["", "-"]) + "#}",
            lambda: tag("raw") + "{{ x }}\n" + tag("endraw").replace("+%}", "%}"), lambda: tag("filter upper") + self.body(0) + tag("endfilter"),
            lambda: tag(f"with v = {self.any(1)}") + "{{ v }}" + tag("endwith"),
            lambda: tag(f"set a, b = {self.any(0)}, {self.any(0)}") + "{{ a }}{{ b }}"])()

    def template(self):
        macro = self.r.choice(["", "", "{% macro f(p, o='d', u=none) %}[{{ p }}{{ o }}{{ u }}{% if p is number and p > 0 %}{{ f(p - 1) }}{% endif %}]{% endmacro %}\n"])
        return macro + self.body(2) + (self.r.choice(["{{ f(2) }}", "{{ f('a', u=l) }}", "{{ f() }}", "{{ f(1, 2) | upper }}"]) if macro else "")


HAND_WRITTEN = [
    "{{ 'ß Σας ΑΣ ǆ ﬁ İ' | upper }}|{{ 'ΑΣ Σ ÄÖ İ' | lower }}|{{ 'ǆa ßb' | capitalize }}|{{ 'ǆa ßb o\\'x' | title }}|{{ 'ǆa o\\'x'.title() }}",
    "{{ [1.0, 1e16, 1e15, 123456.789, 1e-5, 0.0001, -0.0, 1/3, 2**0.5, 5e-324, 1.7976931348623157e308] }}",
    "{{ (1e16 | tojson) ~ (0.1 | tojson) ~ (100.0 | tojson) }}{{ 1e400 }}{{ -1e400 | tojson }}",
    "{{ ['it\\'s', 'a\"b', '\\'\"', 'tab\\t', 'nul\\x00', '\\u200b\\u00a0\\u00ad', '\\U0001f600', 'é'] }}",
    "{{ {'a': none, true: 'x', 2: [(), (1,), (1, 2)], 1.5: missing is defined} }}", "{{ '\\x7f\\u2028\\u0001\"\\\\/' | tojson }}{{ 'é\\U0001f600\\x7f' | tojson(ensure_ascii=true) }}",
    "{{ tools | tojson(indent=4) }}{{ tools | tojson(separators=(',', ':')) }}{{ d | tojson(sort_keys=true) }}{{ [] | tojson(indent=1) }}{{ {} | tojson(indent=1) }}",
    "{{ d.items() }}{{ d.keys() }}{{ d.values() }}{{ range(3) }}{{ range(1, 9, 3) }}", "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -7.5 // 2 }} {{ -7.5 % 2 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}",
    "{{ 1 == 1.0 }}{{ true == 1 }}{{ '1' == 1 }}{{ [1] == (1,) }}{{ [1, [2]] == [1.0, [2]] }}{{ none == missing }}{{ missing == nope }}{{ {'a': 1} == {'a': 1.0} }}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}{{ loop.length }}{{ i }}{% else %}none{% endfor %}{% for i in [] %}{% else %}none{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}",
    "{% macro f() %}{{ y }}{% endmacro %}{% set y = 5 %}{{ f() }}{% for y in [1] %}{{ f() }}{% endfor %}", "  {% if true %}\n  a\n  {% endif %}\n\n b {%- if true -%} c {% endif +%}\n d",
    "a \n  {{- 1 -}}  \n b\n{# c #}\nd {#- e -#} f\n  {#+ g #}h\n", "{% raw %}{{ a }}{% b %}{% endraw %}\n  {%- raw -%}  x  {%- endraw -%}  y", "x\r\ny\rz\n\n", "{{ 'a' 'b' \"c\" }}{{ \"\\t\\x41\\101\\q\\\n\" }}",
    "{{ 'a' if false }}|{{ ('a' if false) is defined }}|{{ 1 if no else 2 if no else 3 }}|{{ 1 if no else 2 if yes else 3 }}", "{{ not 1 == 2 and 3 }}{{ 0 or '' or 'x' }}{{ 1 and 0 or 2 }}{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 1 in [1] == true }}",
    "{{ x is defined and x is number }}{{ n is divisibleby 7 and true }}{{ n is not divisibleby 7 }}{{ -n is number }}{{ -n | abs }}{{ not n is none }}", "{{ {'a': {'b': [1, {'c': 2}]}}.a.b[1].c }}{{ [[1, 2], [3]][0][1] }}{{ l.0 }}{{ messages[2].tool_calls[0].function.name }}",
    "{{ 'abc'[::-1] }}{{ 'äöü'[1:] }}{{ 'äöü'[-1] }}{{ l[::2] }}{{ l[5:] }}{{ l[-2:] }}{{ 'abc'[2:0:-1] }}{{ (1, 2, 3)[1:] }}{{ l[9] is defined }}",
    "{{ ' a  b '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a b  c'.split(none, 1) }}{{ 'aXbX'.split('X') }}{{ ' a b c '.rsplit(none, 1) }}{{ 'aaa'.replace('a', 'b', 2) }}{{ 'ab'.replace('', '-') }}",
    "{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abc'.lstrip('ab') }}|{{ 'äöä'.strip('ä') }}|{{ '\u3000a\u00a0' | trim }}|{{ 'xax' | trim('x') }}|", "{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('bc') }}{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.zfill(5) }}{{ '-1'.zfill(4) }}{{ 'ab'.center(5, '*') }}{{ 'a'.ljust(3, '.') }}{{ 'a'.rjust(3) }}",
    "{{ missing | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ none | default('d') }}{{ none | d('d', boolean=true) }}", "{{ l | first }}{{ l | last }}{{ [] | first is defined }}{{ 'abc' | first }}{{ d | first }}{{ l | map('string') | first }}",
    "{% set it = w | map('lower') %}{{ it | list }}{{ it | list }}{% if empty | select %}truthy{% endif %}", "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{% for (k, v) in d | dictsort(false, 'key', true) %}{{ k }}{% endfor %}{% for c in 'äb' %}{{ c }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
    "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.depth }}{{ a }}{{ b }}{% if b == 3 %}{% continue %}{% endif %}{% break %}{% endfor %}{% endfor %}", "{% set x %}a{% for i in l %}{{ i }}{% endfor %} {% endset %}[{{ x }}]{% set y | trim | upper %} b {% endset %}[{{ y }}]{% filter replace('a', 'b') %}aa{% endfilter %}",
    "{{ 5 | round }}{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}{{ 2.4 | round(0, 'ceil') }}{{ -2.4 | round(method='floor') }}{{ '3' | int + 1 }}{{ '0x1f' | int(0, 16) }}{{ '1_0' | int }}{{ ' 4.7 ' | int }}{{ 'nan' | float }}{{ none | int }}",
    "{{ 'a b_c d-e' | wordcount }}{{ 'one two three' | truncate(9) }}{{ 'one two three four' | truncate(9, leeway=0) }}{{ 'a\nb\n\nc' | indent }}{{ 'a\nb\n\nc' | indent('> ', true, true) }}", "{{ [3, 1] | min }}{{ w | max }}{{ [] | max is defined }}{{ rows | sum(attribute='v') if no }}{{ [1, 2] | sum(start=10) }}{{ rows | map(attribute='k') | unique | join(',') }}{{ rows | join('-', attribute='k') }}",
    "{{ raise_exception('no') }}", "{{ missing.x }}", "{{ missing + 1 }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ l.append(1) }}", "{{ d.update(a=1) }}", "{{ [] | nofilter }}", "{{ 1 is notest }}", "{{ range(1000000) }}", "{% for x in 5 %}{% endfor %}",
    "{% for x in none %}{% endfor %}", "{{ 1 | length }}", "{{ [1] < ['a'] }}", "{% if x %}", "{% endif %}", "{{ 1 + }}", "{{ (1 }}", "{{ f(a=1, 2) }}", "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y is defined }}", "{% set q = 1 %}{% set q.x = 1 %}", "{{ [1, 2", "{{ 'abc }}", "{# x",
    "{{ a b }}", "{% for in l %}{% endfor %}", "{% for x in l if x if y %}{% endfor %}", "{% if a if b else c %}{% endif %}", "{{ x.y.z }}", "{{ nil.x is defined }}", "{{ nil.x.y }}", "{{ s.nope is defined }}", "{{ s() }}", "{% else %}", "{% break %}", "{{ x | upper.y }}", "{{ }}", "{{ [,] }}", "{{ {1} }}", "{{ {1: } }}", "{{ 1 not 2 }}", "{{ a == not b }}", "{{ a is b is c }}", "{{ ''.join(['a', 'b']) }}{{ ','.join(w) }}{{ ','.join(l) }}",
    "{{ dict(a=1) }}{{ dict([['a', 1]], b=2) }}{{ d.get('x') }}{{ d.get('x', 1) }}{{ d['items'] is defined }}{{ d.items is defined }}{{ 'x' in d }}{{ d | length }}{{ d.copy() == d }}", "{{ mixed | map('tojson') | join(' ') }}{{ mixed | select('mapping') | list | length }}{{ mixed | reject('none') | list }}{{ [0, 1] | select | list }}",
    "{% for m in messages %}{{ m.role }}{% if m.content is string %}:{{ m.content | trim }}{% elif m.tool_calls %}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}{% endif %}{{ loop.nextitem.role if not loop.last }}\n{% endfor %}",
    "{{ loop is defined }}{% for i in [1] %}{{ loop.index0 ~ loop.revindex ~ loop.depth0 ~ loop.length }}{% endfor %}", "{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ missing ~ [1] }}", "{{ 9223372036854775807 }}{{ 0b101 + 0o17 }}", "{% with a = 1, b = n %}{{ a + b }}{% endwith %}{{ a is defined }}", "{{ 1.e3 is defined }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (a, b) = [3, 4] %}{{ a }}{{ b }}{% set a, b = [1] %}", "{% macro g(a, b) %}{{ a }}{{ b is defined }}{% endmacro %}{{ g(1) }}{{ g(b=2, a=1) }}{{ g(1, 2, 3) }}", "{% macro g(a=1, b=a) %}{{ b }}{% endmacro %}{{ g(2) }}{{ g() }}{{ g(c=1) }}", "{{ true + 1 }}{{ -true }}{{ +false }}{{ (yes, no) | sum }}{{ 'abc' is sequence }}{{ d is iterable }}{{ 3 is integer }}{{ true is integer }}{{ true is number }}",
]


def shown(case):
    return "an error" if case.get("error") else repr(case["text"])


def run(hadal, template):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "t.jinja").write_bytes(template.encode())
        (folder / "v.jsonl").write_text(json.dumps(VARIABLES) + "\n")
        done = subprocess.run([hadal, "template", folder / "t.jinja", "--jsonl", folder / "v.jsonl"], capture_output=True, check=False)
    if done.returncode == 0:
        return {"text": json.loads(done.stdout.decode())}
    if done.returncode == 1 and done.stderr.startswith(b"error: "):
        return {"error": True}
    return {"crash": done.returncode, "text": done.stderr.decode()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hadal", nargs="?")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--write", type=pathlib.Path)
    options = parser.parse_args()
    generator = Generator(options.seed)
    templates = HAND_WRITTEN + [generator.template() for _ in range(options.cases)]
    cases = [{"template": t, **expected(t)} for t in templates]
    if options.write:
        lines = [json.dumps({"variables": VARIABLES})] + [json.dumps(case) for case in cases]
        options.write.write_text("\n".join(lines) + "\n")
        return 0
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda case: run(options.hadal, case["template"]), cases))
    wrong = [(case, got) for case, got in zip(cases, found) if {k: v for k, v in case.items() if k != "template"} != got]
    for case, got in wrong[:20]:
        print(f"template {case['template']!r}\n  Jinja2 {shown(case)}\n  hadal  {shown(got)}")
    errors = sum("error" in case for case in cases)
    print(f"{len(cases)} templates, {errors} of them errors, {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
