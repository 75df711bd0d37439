"""Bodies that no route may take: bytes that are no strict JSON, and JSON that is not what a route's schema says.

Everything follows from the API's document and from nothing random, so that a case has the same name in every process.
"""

import copy
import gzip
import json
import re
import zlib
from functools import cache

import zstandard
from jsonschema import Draft202012Validator

from eguard.server.app import describe_routes

#: Values of every JSON type, and texts and numbers at the edges.
REPLACEMENTS = {
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "largest int64": 2**63 - 1,
    "half": 0.5,
    "huge": 1e308,
    "empty text": "",
    "number in a text": "7",
    "text": "surely nobody's value",
    "long text": "x" * 8000,
    "control bytes": "a\x00b\x1b[31m\x7f",
    "list": [],
    "object": {},
    "many items": [0] * 2000,
}
MEGABYTE = 1 << 20


@cache
def routes_with_bodies():
    """Return the schema of every route that takes a body, by method and path."""
    found = {}
    for path, item in describe_routes().openapi()["paths"].items():
        for method, operation in item.items():
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                found[f"{method.upper()} {path}"] = schema
    return dict(sorted(found.items()))


@cache
def forms():
    """Return each schema once, by the first of the routes that it is the body of."""
    routes = routes_with_bodies()
    first = {json.dumps(schema, sort_keys=True): route for route, schema in sorted(routes.items(), reverse=True)}
    return {route: routes[route] for route in sorted(first.values())}


def example(schema, agent_id="a1", name=""):
    """Return a value that a schema allows, with every field that it names."""
    if "anyOf" in schema:
        schema = next(each for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"]
    if kind == "object":
        return {key: example(part, agent_id, key) for key, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {"type": "object"}), agent_id) for _ in range(schema.get("minItems", 1))]
    if kind in {"integer", "number"}:
        return _number(schema)
    if kind == "boolean":
        return False
    return agent_id if name == "agent_id" else _text(schema)


def _text(schema):
    """Return a text of one letter, "a" where it is to be hexadecimal, of the length that the pattern asks for."""
    lengths = range(max(1, schema.get("minLength", 1)), 129)
    texts = (letter * length for letter in "xa" for length in lengths)
    return next(text for text in texts if re.search(schema.get("pattern", ""), text))


def _number(schema):
    if "exclusiveMaximum" in schema:
        return (schema["exclusiveMinimum"] + schema["exclusiveMaximum"]) / 2
    return int(schema.get("minimum", 0)) or 1


def unstrict_bodies(good):
    """Return bodies that are refused before anybody looks at what they say: (bytes, content encoding, codes)."""
    text, json_codes = good.decode(), {"invalid_json"}
    field = text[1 : text.index(":")] if ":" in text else '"x"'

    def with_value(value):
        return f'{{"x":{value}}}'.encode()

    cases = {
        "empty": (b"", {"empty_body"}),
        "blank": (b" \n\t", json_codes),
        "null bytes": (bytes(64), json_codes),
        "byte order mark": (b"\xef\xbb\xbf" + good, {"invalid_json", "invalid_utf8"}),
        "UTF-16": (text.encode("utf-16"), {"invalid_utf8", "invalid_json"}),
        "UTF-32": (text.encode("utf-32-le"), {"invalid_utf8", "invalid_json"}),
        "invalid UTF-8": (b'{"x":"\xff"}', {"invalid_utf8"}),
        "overlong UTF-8": (b'{"x":"\xc0\xaf"}', {"invalid_utf8"}),
        "surrogate in UTF-8": (b'{"x":"\xed\xa0\x80"}', {"invalid_utf8"}),
        "cut UTF-8": (b'{"x":"\xf0\x9f\x98', {"invalid_utf8"}),
        "without its end": (good[:-1], json_codes),
        "half": (good[: len(good) // 2] if len(good) > 4 else b"{", json_codes),
        "first byte": (good[:1], json_codes),
        "something after it": (good + b"x", json_codes),
        "twice": (good + good, json_codes),
        "null byte after it": (good + b"\x00", json_codes),
        "comma at the end": (b'{"x":1,}', json_codes),
        "comma at the start": (b'{,"x":1}', json_codes),
        "single quotes": (b"{'x':1}", json_codes),
        "bare name": (b"{x:1}", json_codes),
        "comment": (b'{"x":1}//', json_codes),
        "raw control byte": (b'{"x":"\x01"}', json_codes),
        "raw line break": (b'{"x":"\n"}', json_codes),
        "bad escape": (rb'{"x":"\q"}', json_codes),
        "short escape": (rb'{"x":"\u12"}', json_codes),
        "form": (b"agent_id=a1&status=done", json_codes),
        "XML": (b"<?xml version='1.0'?><a/>", json_codes),
        "MessagePack": (b"\x81\xa1x\x01", {"invalid_utf8", "invalid_json"}),
        "NaN": (with_value("NaN"), {"non_finite_number"}),
        "Infinity": (with_value("Infinity"), {"non_finite_number"}),
        "-Infinity": (with_value("-Infinity"), {"non_finite_number"}),
        "1e400": (with_value("1e400"), {"number_out_of_range"}),
        "-1e400": (with_value("-1e400"), {"number_out_of_range"}),
        "2^63": (with_value(2**63), {"number_out_of_range"}),
        "-2^63-1": (with_value(-(2**63) - 1), {"number_out_of_range"}),
        "five thousand digits": (with_value("1" * 5000), {"number_out_of_range"}),
        "leading zero": (with_value("07"), json_codes),
        "hexadecimal": (with_value("0x7"), json_codes),
        "plus": (with_value("+7"), json_codes),
        "same key twice": (f"{{{field}:1,{field}:2}}".encode(), {"duplicate_key"}),
        "same key twice, once escaped": (rb'{"x":1,"\u0078":2}', {"duplicate_key"}),
        "same key twice below": (b'{"x":[{"y":1,"y":1}]}', {"duplicate_key"}),
        "lone high surrogate": (with_value(r'"\ud800"'), {"lone_surrogate"}),
        "lone low surrogate": (with_value(r'"\udc00"'), {"lone_surrogate"}),
        "surrogate as a key": (rb'{"\ud800":1}', {"lone_surrogate"}),
        "65 lists": (b"[" * 65 + b"]" * 65, {"too_deep"}),
        "65 objects": (b'{"a":' * 65 + b"1" + b"}" * 65, {"too_deep"}),
        "60,000 open lists": (b"[" * 60_000, {"too_deep"}),
        "long string": (with_value(json.dumps("x" * 9000)), {"string_too_long"}),
        "long key": (json.dumps({"x" * 9000: 1}).encode(), {"string_too_long"}),
    }
    plain = {name: (data, None, codes) for name, (data, codes) in cases.items()}
    return plain | _packed_bodies(good)


def _packed_bodies(good):
    damaged, other = {"invalid_compression"}, {"unsupported_encoding"}
    packed, frame = gzip.compress(good, mtime=0), zstandard.ZstdCompressor().compress(good)
    flipped = bytes([*packed[:-6], packed[-6] ^ 1, *packed[-5:]])
    return {
        "gzip that is none": (good, "gzip", damaged),
        "gzip cut off": (packed[:-4], "gzip", damaged),
        "gzip with a wrong checksum": (flipped, "gzip", damaged),
        "gzip with something after it": (packed + b"x", "gzip", damaged),
        "gzip of two members": (packed + packed, "gzip", damaged),
        "gzip of nothing": (gzip.compress(b"", mtime=0), "gzip", {"empty_body"}),
        "gzip in gzip": (gzip.compress(packed, mtime=0), "gzip", {"invalid_utf8", "invalid_json"}),
        "gzip bomb": (gzip_bomb(), "gzip", {"payload_too_large"}),
        "zlib as gzip": (zlib.compress(good), "gzip", damaged),
        "zstd that is none": (good, "zstd", damaged),
        "zstd cut off": (frame[:-1], "zstd", damaged),
        "zstd with something after it": (frame + b"x", "zstd", damaged),
        "zstd in gzip": (gzip.compress(frame, mtime=0), "gzip", {"invalid_utf8", "invalid_json"}),
        "zstd bomb": (zstandard_bomb(), "zstd", {"payload_too_large"}),
        "zstd of a window too large": (b"\x28\xb5\x2f\xfd\x00\xf8" + frame[6:], "zstd", damaged),
        "two encodings": (packed, "gzip, gzip", other),
        "unknown encoding": (good, "br", other),
        "deflate": (zlib.compress(good), "deflate", other),
        "encoding of control bytes": (good, "gz\tip", other),
    }


@cache
def gzip_bomb(megabytes=900):
    """Return a gzip body of about a thousandth of what it says."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    head = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (megabytes - 1)


@cache
def zstandard_bomb(megabytes=900):
    """Return a zstd body of about a thirty-thousandth of what it says."""
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    return b"".join([*(packer.compress(bytes(MEGABYTE)) for _ in range(megabytes)), packer.flush()])


def schema_bodies(schema, good):
    """Yield (name, value) for every change of one field that a schema does not allow."""
    validator = Draft202012Validator(schema)
    for name, value in REPLACEMENTS.items():
        if not isinstance(value, dict):
            yield f"body is {name}", value
    for place in _places(good):
        where = ".".join(map(str, place))
        for name, value in REPLACEMENTS.items():
            changed = _changed(good, place, value)
            if not validator.is_valid(changed):
                yield f"{where}: {name}", changed
        without = _without(good, place)
        if not validator.is_valid(without):
            yield f"{where}: left out", without
    for place in [(), *_places(good)]:
        extra = _changed(good, (*place, "no_such_field"), 1)
        if extra is not None and not validator.is_valid(extra):
            yield f"{'.'.join(map(str, place)) or 'body'}: unknown field", extra


def _places(value, place=()):
    parts = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*place, key)
        yield from _places(part, (*place, key))


def _changed(good, place, value):
    changed = copy.deepcopy(good)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    if not isinstance(inner, dict | list):
        return None
    if isinstance(inner, list) and not isinstance(place[-1], int):
        return None
    inner[place[-1]] = value
    return changed


def _without(good, place):
    changed = copy.deepcopy(good)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return changed
