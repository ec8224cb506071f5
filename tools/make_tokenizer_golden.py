#!/usr/bin/env python3
"""Writes src/text/testdata: small tokenizers of every supported kind, made with Hugging Face
tokenizers, and what it encodes and decodes with them.

  python3 tools/make_tokenizer_golden.py [--data ../shared/data]

NAME.json             a tokenizer.json
NAME_vectors.jsonl    {"text", "ids", "with_special"} and {"decode": ids, "text", "skip_special"}
code_points.json      for some of them, and DeepSeek-V3's if the data folder is there, a digest of
                      the ids of every code point alone and inside text, by blocks of 16,384 code
                      points: CRC-32 over the ids as little-endian int32, -1 after each text

Needs: pip install tokenizers (0.23.3 made what is committed).
"""

import argparse
import json
import random
import struct
import zlib
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Split

OUT = Path(__file__).resolve().parent.parent / "src/text/testdata"
BLOCK = 16384

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CASED = (  # upper and lower case apart, as newer vocabularies do it
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m"
    r"|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t"
    r"|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXTS = """The little boat went down the river, and the old man in the boat didn't look back.
"Where are you going?" she asked. "I'm going home," he'd said; we'll see, they've said, it's late.
In 1984 there were 1,234,567 people; 42 of them had 3.14159 apples. 2024-11-22 12:34:56
for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // the sum of the products
def answer(question):\n    return {"question": question, "answer": 42}\n\n
Die kleine Straße führt über die Brücke; schön, daß Größe hier zählt. Où êtes-vous allé? Ça va.
Маленькая лодка плыла вниз по реке, и старик в лодке не оглянулся.
小船顺流而下，老人没有回头。一二三四五六七八九十，你好世界。
小さな船は川を下り、老人は振り返らなかった。カタカナとひらがな。
작은 배는 강을 따라 내려갔고 노인은 뒤돌아보지 않았다.
القارب الصغير نزل مع النهر، والرجل العجوز لم ينظر إلى الوراء. ١٢٣٤
छोटी नाव नदी में नीचे गई और बूढ़े आदमी ने पीछे नहीं देखा। १२३
\\frac{a}{b} + \\sum_{i=0}^{n} x_i^2 \\le \\sqrt{2} and so on and so on and the end of the story
👍🏽 👩‍👩‍👧‍👦 🎉🎉 done... done!!! ---- ==== <<<< >>>> #### $$$$ €100 £5 ½ ² Ⅷ 〇
""".split("\n")

FRAGMENTS = (
    ["the", " the", "The", "THE", " and", "boat", " river", "n't", "'s", "'S", "'ſ", "'re", "'LL", "'ve"]
    + ["1", "12", "1234", "٣٤", "½", "Ⅷ", "²", "〇", "一", "二三", "龥", "龦", "カナ", "゛", "・", "ー", "한국"]
    + [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200b", "\x00", "\x1c"]
    + [".", ",", "!", "?", "...", "--", "(", ")", "<", ">", "|", "_", "/", "\\", '"', "'", "$", "€", "→"]
    + ["é", "e\u0301", "\u0301", "ß", "ẞ", "İ", "ﬁ", "а", "Я", "ї", "ب", "क्ष", "\u094d", "👍🏽", "\u200d", "\ufe0f"]
    + ["\U0001f468\u200d\U0001f469", "\U00020000", "\U000e0001", "\U0010ffff", "\ue000", "\ufffd", "\u0378"]
    + ["<|begin|>", "<|end|>", "<|user|>", "<mask>", "<a>", "<a><b>", "word", "<sp", "<|", "|>"]
)


def train(name, pre_tokenizer, vocab_size=420, specials=("<|begin|>", "<|end|>"), **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


def gpt2():
    tokenizer = train("gpt2", ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def gpt2_prefix():
    return train("gpt2_prefix", ByteLevel(add_prefix_space=True))


def llama3():
    pre = pre_tokenizers.Sequence(
        [Split(Regex(LLAMA3), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer = train("llama3", pre, specials=(), ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>", "<|user|>"])
    begin = tokenizer.token_to_id("<|begin|>")
    template = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", begin)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    # Words that merges do not reach: ignore_merges finds them nevertheless.
    data = json.loads(tokenizer.to_str())
    vocab = data["model"]["vocab"]
    merged = [merge for merge in data["model"]["merges"]]
    whole = sorted((t for t in vocab if len(t) > 3), key=lambda t: (-len(t), t))[:12]
    data["model"]["merges"] = [m for m in merged if "".join(m) not in whole]
    return Tokenizer.from_str(json.dumps(data))


def olmo2():
    pre = pre_tokenizers.Sequence(
        [Split(Regex(LLAMA3), "removed", invert=True), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer = train("olmo2", pre, specials=("<|end|>",))
    tokenizer.add_special_tokens(["<|begin|>"])
    tokenizer.add_tokens(["<|user|>"])
    return tokenizer


def deepseek_v2():
    letters = "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿDŽ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ"
    pre = pre_tokenizers.Sequence(
        [
            Split(Regex(r"[\r\n]"), "isolated"),
            Split(Regex(r"\s?[%s]+" % letters), "isolated"),
            Split(Regex(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), "isolated"),
            Split(Regex(r"\s+$"), "isolated"),
            Split(Regex(r"[一-龥ࠀ-一가-퟿]+"), "isolated"),
            Digits(individual_digits=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return train("deepseek_v2", pre)


def cased():
    pre = pre_tokenizers.Sequence(
        [Split(Regex(CASED), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return train("cased", pre)


def behaviors():
    """Every behavior, empty matches, prefix spaces, and added tokens with every flag."""
    pre = pre_tokenizers.Sequence(
        [
            Split(Regex(r"(?<=[.!?])\s+"), "removed"),
            Split(" ", "merged_with_next"),
            Split(Regex(r"[aeiou]"), "contiguous"),
            Split(Regex(r"[.,]"), "merged_with_previous"),
            Split(Regex(r"\bx*"), "isolated"),
            Split(Regex(r"^\w|\w$"), "isolated"),
            Split(Regex(r"[\p{Han}&&[^一]]++"), "merged_with_next", invert=True),
            Digits(individual_digits=False),
            ByteLevel(add_prefix_space=True, use_regex=True),
        ]
    )
    tokenizer = train("behaviors", pre)
    tokenizer.add_special_tokens([AddedToken("<|user|>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer.add_tokens(
        [
            AddedToken("word", single_word=True, normalized=False),
            AddedToken("<mask>", lstrip=True),
            AddedToken("<a>", rstrip=True),
            AddedToken("<a><b>"),
            AddedToken("\t", rstrip=True),
            AddedToken("élan", single_word=True),
        ]
    )
    return tokenizer


KINDS = [gpt2, gpt2_prefix, llama3, olmo2, deepseek_v2, cased, behaviors]
WITH_DIGESTS = [gpt2, llama3, deepseek_v2, behaviors]  # kinds of regular expression


def texts(rng):
    result = [""] + [t for t in TEXTS if t]
    for _ in range(90):
        result.append("".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, 24))))
    result.append("a" * 300)
    result.append(" " * 100 + "x" + "\n" * 50)
    return result


def write_vectors(name, tokenizer):
    rng = random.Random(name)
    size = tokenizer.get_vocab_size()
    with open(OUT / f"{name}_vectors.jsonl", "w", encoding="utf-8") as out:
        for text in texts(rng):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            special = tokenizer.encode(text, add_special_tokens=True).ids
            line = {"text": text, "ids": ids}
            if special != ids:
                line["with_special"] = special
            out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        for _ in range(40):
            ids = [rng.randrange(size + 3) for _ in range(rng.randint(0, 12))]
            line = {
                "decode": ids,
                "text": tokenizer.decode(ids, skip_special_tokens=False),
                "skip_special": tokenizer.decode(ids, skip_special_tokens=True),
            }
            out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def around(c):
    return f"a{c} {c}1{c}.{c}\n{c}{c}'{c}中{c}"


def code_point_digests(tokenizer):
    digests = []
    for begin in range(0, 0x110000, BLOCK):
        points = [chr(c) for c in range(begin, begin + BLOCK) if not 0xD800 <= c < 0xE000]
        lines = [line for c in points for line in (c, around(c))]
        digest = 0
        for encoding in tokenizer.encode_batch_fast(lines, add_special_tokens=False):
            ids = [*encoding.ids, -1]
            digest = zlib.crc32(struct.pack(f"<{len(ids)}i", *ids), digest)
        digests.append(f"{digest:08x}")
    return digests


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    tokenizers = {}
    for make in KINDS:
        data = json.loads(make().to_str())
        if make is not llama3:  # the older spelling of merges
            data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        (OUT / f"{make.__name__}.json").write_text(text + "\n", encoding="utf-8")
        tokenizers[make] = Tokenizer.from_str(text)
        write_vectors(make.__name__, tokenizers[make])

    known = OUT / "code_points.json"
    digests = json.loads(known.read_text()) if known.exists() else {}
    for make in WITH_DIGESTS:
        digests[make.__name__] = code_point_digests(tokenizers[make])
    file = "tokenizer/tokenizer.json"
    if (args.data / file).exists():
        digests[file] = code_point_digests(Tokenizer.from_file(str(args.data / file)))
    known.write_text(json.dumps(digests, indent=0) + "\n")


if __name__ == "__main__":
    main()
