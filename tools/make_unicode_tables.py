#!/usr/bin/env python3
"""Writes src/text/unicode_tables.cpp: the character classes that Hugging Face tokenizers uses.

Regular expressions in tokenizer.json are matched there by Oniguruma, which carries Unicode tables
of its own version; asking the library itself for every code point is the only way to get the same
ones. Needs: pip install tokenizers (the version is written into the table).

  python3 tools/make_unicode_tables.py > src/text/unicode_tables.cpp
"""

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CATEGORIES = (
    "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co"
).split()
SCRIPTS = "Han Hiragana Katakana Hangul".split()
CHUNK = 4096


def code_points():
    return [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def chunks():
    points = code_points()
    return [points[i : i + CHUNK] for i in range(0, len(points), CHUNK)]


def matching(pattern):
    """The code points that the regular expression `pattern` matches as a text of one character."""
    found = set()
    for mark in "\x00\x01":  # a character that is the mark itself shows up under the other one
        replace = normalizers.Replace(Regex(pattern), mark)
        for chunk in chunks():
            text = replace.normalize_str("".join(map(chr, chunk)))
            assert len(text) == len(chunk), pattern
            found.update(c for c, new in zip(chunk, text) if new == mark != chr(c))
    return found


def rust_word():
    """The code points that count as a part of a word beside an added token with single_word."""
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    tokenizer.add_tokens([AddedToken("<m>", single_word=True, normalized=False)])
    found = set()
    for chunk in chunks():
        encodings = tokenizer.encode_batch([chr(c) + "<m>" for c in chunk], add_special_tokens=False)
        found.update(c for c, e in zip(chunk, encodings) if 1 not in e.ids)
    return found


def rust_numeric():
    digits = pre_tokenizers.Digits(individual_digits=True)
    found = set()
    for chunk in chunks():
        # A lone "a" between: what is not a digit stays glued to it.
        for c in chunk:
            if len(digits.pre_tokenize_str("a" + chr(c))) == 2:
                found.add(c)
    return found


def rust_space():
    """The code points that an added token with lstrip takes with it."""
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    tokenizer.add_tokens([AddedToken("<m>", lstrip=True, normalized=False)])
    found = set()
    for chunk in chunks():
        encodings = tokenizer.encode_batch(["a" + chr(c) + "<m>" for c in chunk])
        found.update(c for c, e in zip(chunk, encodings) if e.offsets[-1][0] == 1)
    return found


def runs(values):
    """(first code point, value) of each run; surrogates continue the run before them."""
    result = []
    for c in range(0x110000):
        value = result[-1][1] if 0xD800 <= c < 0xE000 else values(c)
        if not result or result[-1][1] != value:
            result.append((c, value))
    return result


def ranges(members):
    result = []
    for c in sorted(members):
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def write_ranges(name, members):
    spans = ranges(members)
    print(f"\nconst CodePointRange {name}[] = {{")
    write_items([f"{{0x{a:x}, 0x{b:x}}}" for a, b in spans])
    print("};")
    print(f"const int64_t {name}Size = {len(spans)};")


def write_items(items):
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 100:
            print(line)
            line = "   "
        line += " " + item + ","
    print(line)


def main():
    category = {}
    for index, name in enumerate(CATEGORIES):
        for c in matching(r"\p{%s}" % name):
            assert c not in category, hex(c)
            category[c] = index
    assert len(category) == len(code_points()), "every code point has one general category"

    def of(prefix):
        return {c for c, index in category.items() if CATEGORIES[index].startswith(prefix)}

    word = matching(r"\w")
    base = of("L") | of("M") | of("Nd") | of("Pc")
    assert base <= word
    space = matching(r"\s")
    assert matching(r"\d") == of("Nd")
    assert rust_space() == space

    print("// Written by tools/make_unicode_tables.py; do not edit. Character classes as Hugging Face")
    print(f"// tokenizers {tokenizers.__version__} matches them.")
    print("// clang-format off")
    print('#include "text/unicode_tables.h"')
    print("\nnamespace hadal::unicode_tables {")
    spans = runs(lambda c: category[c])
    print("\n// First code point of a run << 8 | index of its general category in kCategoryNames.")
    print("const uint32_t kCategoryRuns[] = {")
    write_items([f"0x{(c << 8) | index:x}" for c, index in spans])
    print("};")
    print(f"const int64_t kCategoryRunsSize = {len(spans)};")
    print("\nconst char kCategoryNames[][3] = {")
    write_items([f'"{name}"' for name in CATEGORIES])
    print("};")
    print(f"const int64_t kCategoryNamesSize = {len(CATEGORIES)};")
    write_ranges("kWhiteSpace", space)
    print("\n// Word characters that are not of category L, M, Nd or Pc.")
    print("// (Those and these together are \\w.)", end="")
    write_ranges("kOtherWord", word - base)
    print("\n// Added tokens and the Digits pre-tokenizer use other tables than regular expressions do:")
    print("// where single_word sees a part of a word and \\w does not, or the reverse;", end="")
    write_ranges("kSingleWordDifference", rust_word() ^ word)
    print("// where Digits sees a number and \\p{N} does not, or the reverse.", end="")
    write_ranges("kDigitsDifference", rust_numeric() ^ of("N"))
    for script in SCRIPTS:
        write_ranges("k" + script, matching(r"\p{%s}" % script))
    print("\n}  // namespace hadal::unicode_tables")


if __name__ == "__main__":
    main()
