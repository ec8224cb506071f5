#!/usr/bin/env python3
"""Tokenizer speed: hadal against Hugging Face `tokenizers`, one thread each, in alternating pairs.

    python tools/bench_tokenizer.py --bench PATH/tokenizer_bench --tokenizer tokenizer.json \
        --input text.txt [--pairs 7]

--input is text (one document), .jsonl (`text` of each line), or either with .zst; at most
--max-bytes of it are used.

The hadal side is a program called as

    tokenizer_bench --tokenizer tokenizer.json --input FILE.jsonl --repeat N

which reads FILE ({"text": ...} a line, lines end with "\\n" only) and the tokenizer before any
clock starts, encodes all texts one after the other on one thread (special tokens recognised as
Hugging Face does by default, none added), once untimed and N times timed, and prints one JSON
object: {"mb_per_s": median over the N, "bytes": UTF-8 bytes of all texts, "tokens": ids in all of
them}; MB is 1e6 bytes. Both sides must count the same bytes and tokens, else the comparison is
refused (exit 2).

Prints JSON: the median of the pairs' ratios, the rates of every pair. Exit 1 if the median is under
--at-least.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True, help="the hadal side, see above")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument(
        "--repeat", type=int, default=3, help="timed passes over the texts in each half of a pair"
    )
    parser.add_argument("--max-bytes", type=int, default=4_000_000)
    parser.add_argument(
        "--method",
        default="encode_batch_fast",
        choices=["encode_batch_fast", "encode"],
        help="of the peer: all texts without offsets (its fastest), or text by text with them",
    )
    parser.add_argument("--at-least", type=float, default=0.0, help="required median ratio")
    return parser.parse_args()


def read_texts(path, max_bytes):
    """Whole documents up to max_bytes; the last one is cut at a character."""
    if path.suffix == ".zst":
        raw = subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    else:
        raw = path.read_bytes()
    if ".jsonl" in path.suffixes:
        documents = (json.loads(line)["text"] for line in raw.split(b"\n") if line.strip())
    else:
        documents = [raw.decode("utf-8", "replace")]
    texts, room = [], max_bytes
    for text in documents:
        encoded = text.encode()
        if len(encoded) > room:
            text = encoded[:room].decode("utf-8", "ignore")
        if text:
            texts.append(text)
        room -= len(encoded)
        if room <= 0:
            break
    return texts


def theirs(tokenizer, texts, method, repeat, count_bytes):
    """(MB/s, tokens) of Hugging Face tokenizers."""

    def encode():
        if method == "encode":
            return [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        return tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    tokens = sum(len(e.ids) for e in encode())
    rates = []
    for _ in range(repeat):
        start = time.perf_counter()
        encode()
        rates.append(count_bytes / 1e6 / (time.perf_counter() - start))
    return statistics.median(rates), tokens


def ours(bench, tokenizer, file, repeat):
    """The JSON object of the hadal side."""
    command = [bench, "--tokenizer", tokenizer, "--input", file, "--repeat", str(repeat)]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{bench} failed with {done.returncode}")
    return json.loads(done.stdout)


def main():
    args = arguments()
    texts = read_texts(args.input, args.max_bytes)
    count_bytes = sum(len(text.encode()) for text in texts)
    tokenizer = tokenizers.Tokenizer.from_file(str(args.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.jsonl"
        file.write_text(
            "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts),
            encoding="utf-8",
        )
        for _ in range(args.pairs):
            mine = ours(args.bench, args.tokenizer, file, args.repeat)
            rate, tokens = theirs(tokenizer, texts, args.method, args.repeat, count_bytes)
            if (mine["bytes"], mine["tokens"]) != (count_bytes, tokens):
                print(
                    f"not the same work: hadal {mine['bytes']} bytes, {mine['tokens']} tokens; "
                    f"tokenizers {count_bytes} bytes, {tokens} tokens",
                    file=sys.stderr,
                )
                return 2
            pairs.append(
                {
                    "hadal_mb_per_s": round(mine["mb_per_s"], 3),
                    "tokenizers_mb_per_s": round(rate, 3),
                    "ratio": round(mine["mb_per_s"] / rate, 2),
                }
            )
    ratio = statistics.median(pair["ratio"] for pair in pairs)
    print(
        json.dumps(
            {
                "ratio": ratio,
                "ratio_least": min(pair["ratio"] for pair in pairs),
                "pairs": pairs,
                "bytes": count_bytes,
                "tokens": tokens,
                "method": args.method,
                "repeat": args.repeat,
                "tokenizers": tokenizers.__version__,
            },
            indent=2,
        )
    )
    return 0 if ratio >= args.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
