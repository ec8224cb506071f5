#!/usr/bin/env python3
"""Writes src/text/jinja/case_tables.cpp: upper, lower and title case as Python has them.

  python3 tools/make_case_tables.py > src/text/jinja/case_tables.cpp
"""

import unicodedata

METHODS = {"Upper": str.upper, "Lower": str.lower, "Title": str.title}
POINTS = [c for c in range(0x80, 0x110000) if not 0xD800 <= c < 0xE000]


def runs(method):
    """[first, last, stride, delta] of the code points that become one other."""
    found = []
    for c in POINTS:
        to = method(chr(c))
        if len(to) != 1 or ord(to) == c or c in SPECIAL:
            continue
        delta = ord(to) - c
        last = found[-1] if found else None
        if last and last[3] == delta and c - last[1] <= 2:
            gap = c - last[1]
            if last[0] == last[1] or last[2] == gap:
                last[1], last[2] = c, gap
                continue
        found.append([c, c, 1, delta])
    return found


SPECIAL = [c for c in POINTS if any(len(m(chr(c))) != 1 for m in METHODS.values())]


def main():
    print("// Written by tools/make_case_tables.py; do not edit. Unicode", unicodedata.unidata_version)
    print("// clang-format off")
    print('#include "text/jinja/case_tables.h"\n\nnamespace hadal::jinja {\n')
    for name, method in METHODS.items():
        rows = [f"{{{a:#x}, {b:#x}, {s}, {d}}}" for a, b, s, d in runs(method)]
        print(f"const CaseRun k{name}Runs[] = {{")
        for i in range(0, len(rows), 3):
            print("    " + ", ".join(rows[i : i + 3]) + ",")
        print(f"}};\nconst int64_t k{name}RunsSize = {len(rows)};\n")
    print("const CaseSpecial kCaseSpecials[] = {")
    for c in SPECIAL:
        to = [[*map(ord, m(chr(c))), 0, 0][:3] for m in METHODS.values()]
        print(f"    {{{c:#x}, {{" + ", ".join("{" + ", ".join(map(hex, t)) + "}" for t in to) + "}},")
    print(f"}};\nconst int64_t kCaseSpecialsSize = {len(SPECIAL)};\n\n}}  // namespace hadal::jinja")


if __name__ == "__main__":
    main()
