"""Damaged and hostile compiled files: a ModelFileError that says where, or a scorer that scores; nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.boosters import booster, nasty_rows

from rankd import limits
from rankd.errors import ModelFileError
from rankd.kernels.forest import TIERS
from rankd.models import ForestScorer, parse_lightgbm
from rankd.models.compiled import _FIXED, read_compiled, write_compiled
from rankd.models.scorer import Origin

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
ORIGIN = Origin("lightgbm", "m.txt", "0" * 64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.rkmodel"


def good(path: Path, name: str = "multiclass") -> bytes:
    write_compiled(path, parse_lightgbm(booster(name).model_to_string()), ORIGIN)
    return path.read_bytes()


def rebuilt(data: bytes, change: Callable[[dict[str, Any]], Any], image: bytes | None = None) -> bytes:
    """The file with another header, all sums and lengths right."""
    magic, version, size, offset, _, _ = _FIXED.unpack_from(data)
    header = json.loads(data[_FIXED.size : _FIXED.size + size])
    result = change(header)
    text = result if isinstance(result, bytes) else json.dumps(header).encode()
    image = data[offset:] if image is None else image
    at = -(-(_FIXED.size + len(text)) // 4096) * 4096
    fixed = _FIXED.pack(magic, version, len(text), at, len(image), hashlib.sha256(text).digest())
    return (fixed + text).ljust(at, b"\0") + image


def error_of(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        read_compiled(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_the_helper_rebuilds_what_is_accepted(path: Path) -> None:
    data = good(path)
    path.write_bytes(rebuilt(data, lambda header: None))
    assert isinstance(read_compiled(path)[0], ForestScorer)


FIXED = [
    (0, b"rkmodem\n", "expected a compiled model"),
    (8, struct.pack("<I", 2), "expected version 1 of compiled models, got 2; compile it again"),
    (8, struct.pack(">I", 1), "expected version 1 of compiled models, got 16777216; compile it again"),
    (12, struct.pack("<I", 1), "the header is damaged; compile it again"),
    (12, struct.pack("<I", 2**32 - 1), "the lengths at its beginning do not fit each other"),
    (16, struct.pack("<Q", 0), "the lengths at its beginning do not fit each other"),
    (16, struct.pack("<Q", 8192), "the lengths at its beginning do not fit each other"),
    (16, struct.pack("<Q", 2**64 - 1), "the lengths at its beginning do not fit each other"),
    (24, struct.pack("<Q", 0), "expected 4096 bytes"),
    (24, struct.pack("<Q", 2**64 - 4096), "it was cut; compile it again"),
    (32, b"\0" * 32, "the header is damaged"),
    (70, b"\xff", "the header is damaged"),
    (4090, b"\1", "expected zeros between the header and the forest"),
    (4100, b"\xff", "its forest is refused"),
    (4096 + 8, struct.pack("<I", 99), "its forest is refused"),
    (4096 + 12, b"\1\2\3\4", "of another version or byte order); compile it again"),
]


@pytest.mark.parametrize(("at", "bytes_", "message"), FIXED)
def test_damage(path: Path, at: int, bytes_: bytes, message: str) -> None:
    data = good(path)
    damaged = data[:at] + bytes_ + data[at + len(bytes_) :]
    assert damaged != data
    assert message in error_of(path, damaged)


def test_cut_anywhere(path: Path) -> None:
    data = good(path, "small")
    for size in [0, 1, 63, 64, 65, 200, 4095, 4096, 4097, len(data) // 2, len(data) - 1]:
        error_of(path, data[:size])
    assert "expected" in error_of(path, data + b"\0")


def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header.update({key: value})


HEADERS: list[tuple[Any, str]] = [
    (lambda h: b"{", ": expected a key in quotes at byte 1 of the JSON"),
    (lambda h: b"[]", ": expected an object"),
    (lambda h: b'{"family": "lightgbm", "family": "lightgbm"}', ":family: the key stands twice"),
    (lambda h: b"\xff\xfe", ": expected a value"),
    (put("more", 1), ": the key 'more' is not known"),
    *((lambda h, k=key: h.pop(k) and None, f":{key}: it is missing") for key in (
        "rankd", "byte_order", "family", "source", "source_sha256", "features", "objective", "transform", "parameter",
        "divisor", "scale", "bias")),
    (put("rankd", "0.0.9"), ":rankd: expected version of rankd"),
    (put("byte_order", "middle"), ":byte_order: expected byte order"),
    (put("family", "linear"), ":family: expected one of catboost, lightgbm, xgboost, got 'linear'"),
    (put("family", ["lightgbm"]), ":family: expected text"),
    (put("source", None), ":source: expected text, got null"),
    (put("source_sha256", "0" * 63), ":source_sha256: expected 64 hexadecimal digits"),
    (put("source_sha256", "../" * 21 + "a"), ":source_sha256: expected 64 hexadecimal digits"),
    (put("features", []), ":features: expected 7 distinct, non-empty names, got 0"),
    (put("features", ["a"] * 7), ":features: expected 7 distinct, non-empty names, got 7"),
    (put("features", ["", *"bcdefg"]), ":features: expected 7 distinct, non-empty names"),
    (put("features", [1, 2, 3, 4, 5, 6, 7]), ":features: expected a list, got 7 numbers"),
    (put("features", [None, *"bcdefg"]), ":features[0]: expected text, got null"),
    (put("transform", "eval"), ":transform: expected one of identity"),
    (put("transform", {}), ":transform: expected text, got an object"),
    (put("parameter", "1"), ":parameter: expected a finite number"),
    (put("parameter", True), ":parameter: expected a finite number"),
    (put("parameter", 10**400), ": expected a comma or }"),
    (put("parameter", 10**399), ":parameter: expected a finite number"),
    (put("objective", 3), ":objective: expected text"),
    (put("divisor", 0), ":divisor: expected an integer from 1 to 100000, got 0"),
    (put("divisor", 2**70), ":divisor: expected an integer"),
    (put("divisor", 1.5), ":divisor: expected an integer"),
    (put("scale", None), ":scale: expected a finite number"),
    (put("scale", 1e999), ": expected a value"),
    (put("bias", [0.0]), ":bias: expected 3 numbers, got 1"),
    (put("bias", [0.0, float("inf"), 0.0]), ":bias[1]: expected a finite number"),
    (put("bias", "0"), ":bias: expected a list of numbers, got text"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), HEADERS, ids=[m for _, m in HEADERS])
def test_headers(path: Path, change: Any, message: str) -> None:
    assert message in error_of(path, rebuilt(good(path), change))


def test_a_header_without_end(path: Path) -> None:
    for text in (b"[" * 100_000, b'{"a":' * 100_000, b'"' + b"a" * 2 * limits.MAX_MODEL_TEXT_BYTES + b'"'):
        assert re.match(r".*: expected", error_of(path, rebuilt(good(path), lambda header, t=text: t)))


def test_a_header_above_its_limit_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_COMPILED_HEADER_BYTES", 100)
    with pytest.raises(ModelFileError, match="expected names of at most 100 bytes"):
        good(path)
    assert not path.exists()


def test_any_changed_bit_of_the_file_is_noticed(path: Path) -> None:
    data = good(path, "small")
    generator = random.Random(4)
    places = [*range(64), *generator.sample(range(64, len(data)), min(150 * SCALE, len(data) - 64))]
    for at in places:
        changed = bytearray(data)
        changed[at] ^= 1 << generator.randrange(8)
        error_of(path, bytes(changed))


def with_checksum(image: bytearray) -> bytes:
    """The image with the sum of rk_forest_image.c set right: four hashes of words, put together."""
    mask, multiplier, checked = 2**64 - 1, 0x9FB21C651E98DF25, image[32:]
    lanes = [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5]
    whole = len(checked) // 32 * 32
    for number, (word,) in enumerate(struct.iter_unpack("<Q", checked[:whole])):
        lane = (lanes[number % 4] ^ word) * multiplier & mask
        lanes[number % 4] = lane ^ lane >> 32
    for byte in checked[whole:]:
        lane = (lanes[0] ^ byte) * multiplier & mask
        lanes[0] = lane ^ lane >> 32
    total = len(checked)
    for lane in lanes:
        total = (total ^ lane) * 0xFF51AFD7ED558CCD & mask
        total ^= total >> 32
    return bytes(image[:24]) + struct.pack("<Q", total) + bytes(checked)


def test_the_checksum_of_the_tests_is_the_kernels(path: Path) -> None:
    data = good(path, "small")
    image = data[_FIXED.unpack_from(data)[3] :]
    assert with_checksum(bytearray(image)) == image


def test_forged_images_are_refused_or_score(path: Path) -> None:
    """Whatever stands in the image, with all sums of file and image right: the forest's own checks decide."""
    data = good(path, "small")
    offset = _FIXED.unpack_from(data)[3]
    generator = random.Random(7)
    refused = 0
    for _ in range(100 * SCALE):
        image = bytearray(data[offset:])
        for _ in range(generator.randrange(1, 4)):
            image[generator.randrange(len(image))] = generator.randrange(256)
        path.write_bytes(rebuilt(data, lambda header: None, with_checksum(image)))
        try:
            scorer, _ = read_compiled(path)
        except ModelFileError as error:
            refused += 1
            assert str(error).startswith(str(path))
            continue
        rows = np.ascontiguousarray(np.resize(nasty_rows(booster("small"), 70).T, (len(scorer.feature_names), 70)))
        for tier in filter(scorer.forest.has_tier, TIERS):
            assert scorer.forest.score(rows, tier).shape == (1, 70)
    assert 0 < refused < 100 * SCALE


def test_no_file_no_mapping(path: Path, tmp_path: Path) -> None:
    for place in (path, tmp_path, Path("/dev/zero")):
        with pytest.raises(ModelFileError, match="expected a file, there is none"):
            read_compiled(place)


def test_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(path)
    monkeypatch.setattr(limits, "MAX_COMPILED_FILE_BYTES", 100)
    with pytest.raises(ModelFileError, match="expected at most 100 bytes"):
        read_compiled(path)
