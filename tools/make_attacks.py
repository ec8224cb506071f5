#!/usr/bin/env python3
"""Writes the attack files and fuzz seeds for safetensors headers and checkpoint indices.

tests/fuzz/attacks/KIND: what must be refused; src/io/attacks_test.cpp says with which words.
tests/fuzz/corpus/KIND: seeds of the fuzz targets: what must be accepted (ok_*), and the attacks,
so that every branch of the parsers is reached from the start.

--check writes nothing and fails when a file differs.
"""
import argparse
import json
import pathlib
import struct
import sys

FUZZ = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fuzz"


def with_header(text, data=b"", length=None):
    """A safetensors file of this header text; `length` lies about its length."""
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype="F32", shape="[2]", offsets="[0,8]"):
    return f'{{"dtype":{json.dumps(dtype)},"shape":{shape},"data_offsets":{offsets}}}'


def one(data=bytes(8), **fields):
    """A file of one tensor, 8 bytes of data."""
    return with_header(f'{{"x":{tensor(**fields)}}}', data)


def two(first, second, data):
    return with_header(f'{{"a":{tensor(offsets=first)},"b":{tensor(offsets=second)}}}', bytes(data))


SAFETENSORS_OK = {
    "no_tensors": with_header("{}      "),
    "one_tensor": one(),
    "scalar": one(shape="[]", offsets="[0,4]", data=bytes(4)),
    "metadata": with_header('{"__metadata__":{"format":"pt"},"x":' + tensor() + "}   ", bytes(8)),
    "metadata_null": with_header('{"__metadata__":null,"x":' + tensor() + "}", bytes(8)),
    "out_of_order": two("[8,16]", "[0,8]", 16),
    "every_dtype": with_header(
        "{" + ",".join(
            f'"{name}":{tensor(name, "[1,2]", f"[{begin},{end}]")}'
            for name, begin, end in [
                ("F64", 0, 16), ("I64", 16, 32), ("F32", 32, 40), ("I32", 40, 48), ("BF16", 48, 52),
                ("F16", 52, 56), ("I16", 56, 60), ("F8_E4M3", 60, 62), ("I8", 62, 64),
                ("U8", 64, 66), ("BOOL", 66, 68)]) + "}", bytes(68)),
    "escaped_names": with_header('{"a\\u0000\\n\\"\\u00e9":' + tensor() + "}", bytes(8)),
}

SAFETENSORS_ATTACKS = {
    # The length before the header.
    "file_empty": b"",
    "file_of_7_bytes": bytes(7),
    "length_0": with_header("{}      ", length=0),
    "length_7": with_header("{}     "),
    "length_2_to_63": with_header("{}      ", length=1 << 63),
    "length_2_to_64_less_1": with_header("{}      ", length=(1 << 64) - 1),
    "length_beyond_file": with_header("{}      ", length=9),
    "length_over_100_mb": with_header("{}      ", length=100_000_001),
    # The JSON.
    "starts_with_bracket": with_header("[1,2,3] "),
    "starts_with_space": with_header(" {}     "),
    "starts_with_0xff": with_header(b"\xff{}     "),
    "not_json": with_header('{"x":   '),
    "text_after_header": with_header("{}     x"),
    "nul_after_header": with_header("{}\0\0\0\0\0\0"),
    "bad_utf8": with_header(b'{"x\xff":' + tensor().encode() + b"}", bytes(8)),
    "half_surrogate": with_header('{"x\\ud800":' + tensor() + "}", bytes(8)),
    "deep": with_header('{"x":' + "[" * 600 + "]" * 600 + "}"),
    "name_twice": with_header(f'{{"x":{tensor()},"x":{tensor()}}}', bytes(8)),
    "name_twice_escaped": with_header(f'{{"x":{tensor()},"\\u0078":{tensor()}}}', bytes(8)),
    "key_twice": with_header(
        '{"x":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "metadata_not_object": with_header('{"__metadata__":[1]}'),
    "metadata_not_strings": with_header('{"__metadata__":{"a":1}}'),
    # A tensor's fields.
    "tensor_not_object": with_header('{"x":[1]}'),
    "field_missing": with_header('{"x":{"dtype":"F32","shape":[2]}}', bytes(8)),
    "field_unknown": with_header(
        '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"y":1}}', bytes(8)),
    "dtype_unknown": one(dtype="F4"),
    "dtype_long": one(dtype="F32" * 1000),
    "dtype_number": one(dtype=32),
    "shape_not_array": one(shape="2"),
    "shape_negative": one(shape="[-2]"),
    "shape_two_negatives": one(shape="[-1,-2]"),
    "shape_float": one(shape="[2.5]"),
    "shape_float_whole": one(shape="[2.0]"),
    "shape_text": one(shape='["2"]'),
    "shape_2_to_63": one(shape="[9223372036854775808]"),
    "shape_1e30": one(shape="[1e30]"),
    "shape_digits": one(shape="[" + "9" * 400 + "]"),
    "shape_product_overflows": one(shape="[4294967296,4294967296]"),
    "shape_product_wraps_to_8": one(shape="[4611686018427387906]"),
    "shape_of_9_dimensions": one(shape="[" + ",".join(["1"] * 8 + ["2"]) + "]"),
    "size_zero": with_header(
        f'{{"a":{tensor(shape="[0]", offsets="[0,0]")},"x":{tensor()}}}', bytes(8)),
    "size_zero_huge": with_header(
        f'{{"a":{tensor(shape="[9223372036854775807,0]", offsets="[0,0]")},"x":{tensor()}}}', bytes(8)),
    "offsets_not_array": one(offsets="8"),
    "offsets_of_one": one(offsets="[8]"),
    "offsets_of_three": one(offsets="[0,8,16]"),
    "offsets_negative": one(offsets="[-8,0]"),
    "offsets_float": one(offsets="[0,8.0]"),
    "offsets_2_to_64": one(offsets="[0,18446744073709551615]"),
    "end_before_begin": one(offsets="[8,0]"),
    "end_beyond_file": one(shape="[3]", offsets="[0,12]"),
    "end_far_beyond_file": one(shape="[2305843009213693951]", offsets="[0,9223372036854775804]"),
    "offsets_too_short_for_shape": one(shape="[4]"),
    "offsets_too_long_for_shape": one(shape="[1]"),
    # All tensors together.
    "overlap": two("[0,8]", "[4,12]", 12),
    "overlap_same_bytes": two("[0,8]", "[0,8]", 8),
    "hole": two("[0,8]", "[12,20]", 20),
    "hole_at_start": one(offsets="[4,12]", data=bytes(12)),
    "tail": one(data=bytes(9)),
    "tail_without_tensors": with_header("{}      ", bytes(1)),
    "data_cut_off": two("[0,8]", "[8,16]", 15),
}


def index(weight_map, metadata=None, **more):
    value = {} if metadata is None else {"metadata": metadata}
    value["weight_map"] = weight_map
    return json.dumps({**value, **more}).encode()


SHARD = "model-00001-of-00002.safetensors"
INDEX_OK = {
    "two_shards": index({"a": SHARD, "b": SHARD.replace("1-", "2-")}, {"total_size": 16}),
    "size_float": index({"a": SHARD}, {"total_size": 16.0}),
    "no_metadata": index({"a": SHARD}),
    "metadata_null": b'{"metadata":null,"weight_map":{"a":"x.safetensors"}}',
    "empty_metadata": index({"a": SHARD}, {}),
    "more_keys": index({"a": SHARD}, {"total_parameters": 4}, format="pt"),
}
INDEX_ATTACKS = {
    "empty": b"",
    "not_json": b'{"weight_map": {"a": ',
    "not_object": b'["a"]',
    "bad_utf8": b'{"weight_map":{"a\xff":"x.safetensors"}}',
    "deep": b'{"weight_map":' + b"[" * 600 + b"]" * 600 + b"}",
    "name_twice": b'{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}',
    "map_missing": b'{"metadata":{"total_size":0}}',
    "map_empty": index({}),
    "map_not_object": index(["a"]),
    "file_not_text": index({"a": 1}),
    "file_empty": index({"a": ""}),
    "file_up": index({"a": "../../etc/x.safetensors"}),
    "file_up_inside": index({"a": "sub/../../x.safetensors"}),
    "file_absolute": index({"a": "/etc/x.safetensors"}),
    "file_in_folder": index({"a": "sub/x.safetensors"}),
    "file_backslash": index({"a": "..\\x.safetensors"}),
    "file_nul": index({"a": "x.safetensors\0.safetensors"}),
    "file_newline": index({"a": "x\n.safetensors"}),
    "file_dots": index({"a": ".."}),
    "file_hidden": index({"a": ".safetensors"}),
    "file_long": index({"a": "x" * 300 + ".safetensors"}),
    "file_pickle": index({"a": "pytorch_model-00001-of-00002.bin"}),
    "metadata_not_object": b'{"metadata":[],"weight_map":{"a":"x.safetensors"}}',
    "size_negative": index({"a": SHARD}, {"total_size": -1}),
    "size_text": index({"a": SHARD}, {"total_size": "16"}),
    "size_2_to_63": index({"a": SHARD}, {"total_size": 1 << 63}),
}


def all_files():
    for kind, accepted, attacks, extension in [
        ("safetensors", SAFETENSORS_OK, SAFETENSORS_ATTACKS, "safetensors"),
        ("index", INDEX_OK, INDEX_ATTACKS, "json"),
    ]:
        for name, content in accepted.items():
            yield FUZZ / "corpus" / kind / f"ok_{name}.{extension}", content
        for name, content in attacks.items():
            yield FUZZ / "corpus" / kind / f"{name}.{extension}", content
            yield FUZZ / "attacks" / kind / f"{name}.{extension}", content


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    different = 0
    for path, content in all_files():
        if check:
            if not path.is_file() or path.read_bytes() != content:
                print(f"{path} is not what tools/make_attacks.py writes")
                different += 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
