#!/usr/bin/env python3
"""Checks that a tokenizer trained by `hadal tokenizer train` is the same one elsewhere.

  python3 tools/check_tokenizer.py FOLDER IDS.jsonl

FOLDER has tokenizer.json and tokenizer_config.json; each line of IDS.jsonl is
{"text": ..., "ids": [...], "with_special": [...]}, as hadal encodes it. Loads the folder with
Hugging Face tokenizers and with transformers (when it is installed), which must give the same ids
and decode them to the text. Exit 77 without tokenizers.
"""

import json
import sys
from pathlib import Path

try:
    from tokenizers import Tokenizer
except ImportError:
    print("skipped: no module tokenizers")
    sys.exit(77)


def main():
    folder = Path(sys.argv[1])
    lines = Path(sys.argv[2]).read_text(encoding="utf-8").split("\n")
    cases = [json.loads(line) for line in lines if line]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    try:
        from transformers import AutoTokenizer

        auto = AutoTokenizer.from_pretrained(folder)
    except ImportError:
        auto = None
    wrong = 0
    for case in cases:
        text, ids, special = case["text"], case["ids"], case["with_special"]
        found = {
            "tokenizers": tokenizer.encode(text, add_special_tokens=False).ids == ids,
            "tokenizers with special": tokenizer.encode(text).ids == special,
            "tokenizers decode": tokenizer.decode(ids, skip_special_tokens=False) == text,
        }
        if auto is not None:
            found["transformers"] = auto.encode(text, add_special_tokens=False) == ids
            found["transformers with special"] = auto.encode(text) == special
            found["transformers decode"] = auto.decode(ids) == text
        for what, same in found.items():
            if not same:
                wrong += 1
                print(f"{what} differs on {text!r}")
    if auto is not None:
        print("bos, eos, pad:", auto.bos_token_id, auto.eos_token_id, auto.pad_token_id)
    print(f"{len(cases)} texts, {wrong} differences, transformers {'checked' if auto else 'not installed'}")
    sys.exit(1 if wrong or not cases else 0)


if __name__ == "__main__":
    main()
