"""Compiled models: a forest's image in a file that is mapped, not read: workers share its pages and start at once.

    64 bytes    MAGIC, version, bytes of the header, offset and bytes of the image, SHA-256 of the header; little-endian
    header      JSON: what the image does not hold (_KEYS)
    zeros       up to a multiple of 4096
    image       csrc/rk_forest.h; the file ends with it

The file is untrusted input. Every field is checked here, the image whole by rk_forest_open. What cannot be checked is
that nobody changes the file while it is mapped: it must not be writable to those who are not trusted, and is replaced
by renaming (write_compiled does), never written to in place.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import re
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankd import __version__, limits
from rankd.errors import ModelFileError
from rankd.kernels.forest import Forest, ForestError
from rankd.kernels.transform import TRANSFORMS
from rankd.models.declared import declared_names
from rankd.models.document import Place
from rankd.models.files import open_file, unreadable, write_whole
from rankd.models.forest import ForestScorer
from rankd.models.json_document import read_json
from rankd.models.objective import Transform
from rankd.models.scorer import Origin

MAGIC = b"rkmodel\n"
VERSION = 1
FAMILIES = {"catboost": "{}", "lightgbm": "Column_{}", "xgboost": "f{}"}
"""The families that have forests, and what each calls feature i where its file has no names."""

_FIXED = struct.Struct("<8sIIQQ32s")
_ALIGNMENT = 4096
_KEYS = (
    "rankd", "byte_order", "family", "source", "source_sha256", "features",
    "objective", "transform", "parameter", "divisor", "scale", "bias",
)  # fmt: skip
_AGAIN = "compile it again with `rankd model compile`"


def write_compiled(path: Path, scorer: ForestScorer, origin: Origin) -> int:
    """Writes the compiled file; its size in bytes. ModelFileError if the names are too long, OSError as it comes."""
    header = json.dumps(
        {
            "rankd": __version__,
            "byte_order": sys.byteorder,
            "family": origin.family,
            "source": origin.source,
            "source_sha256": origin.sha256,
            "features": scorer.feature_names,
            "objective": scorer.transform.objective,
            "transform": scorer.transform.name,
            "parameter": scorer.transform.parameter,
            "divisor": scorer.divisor,
            "scale": scorer.scale,
            "bias": scorer.bias.tolist(),
        },
        ensure_ascii=False,
        allow_nan=False,
    ).encode()
    if len(header) > limits.MAX_COMPILED_HEADER_BYTES:
        raise ModelFileError(f"expected names of at most {limits.MAX_COMPILED_HEADER_BYTES} bytes", origin.source)
    read_json(header, origin.source)  # what could not be read again is not written
    image = memoryview(scorer.forest.image())
    offset = _image_offset(len(header))
    fixed = _FIXED.pack(MAGIC, VERSION, len(header), offset, len(image), hashlib.sha256(header).digest())
    write_whole(path, fixed, header, bytes(offset - len(fixed) - len(header)), image)
    return offset + len(image)


def read_compiled(path: Path, features: Sequence[str] | None = None) -> tuple[ForestScorer, Origin]:
    """The scorer over the mapped file, and where the model came from.

    `features` names the inputs if the source had only numbered names; otherwise it must equal the file's names.
    ModelFileError with where="FILE" or "FILE:KEY" for anything else than what write_compiled of this version writes.
    """
    where = str(path)
    mapped = memoryview(_map(path))
    header_bytes, offset = _check_fixed(mapped, where)
    header = mapped[_FIXED.size : _FIXED.size + header_bytes].tobytes()
    if hashlib.sha256(header).digest() != _FIXED.unpack_from(mapped)[5]:
        raise ModelFileError(f"the header is damaged; {_AGAIN}", where)
    if any(mapped[_FIXED.size + header_bytes : offset]):
        raise ModelFileError(f"expected zeros between the header and the forest; {_AGAIN}", where)
    document = read_json(header, where)
    document.keys_in(_KEYS)
    _expect(document["byte_order"], sys.byteorder, "byte order")
    _expect(document["rankd"], __version__, "version of rankd")
    origin = _origin(document)
    try:
        forest = Forest.from_image(mapped[offset:])
    except ForestError as error:
        raise ModelFileError(f"its forest is refused ({error}); {_AGAIN}", where) from None
    return _scorer(document, forest, origin.family, features), origin


def _map(path: Path) -> mmap.mmap:
    file, size = open_file(path, limits.MAX_COMPILED_FILE_BYTES)
    with file:
        if size < _FIXED.size:
            raise ModelFileError(f"expected a compiled model, got a file of {size} bytes", str(path))
        try:
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None


def _image_offset(header_bytes: int) -> int:
    return -(-(_FIXED.size + header_bytes) // _ALIGNMENT) * _ALIGNMENT


def _check_fixed(mapped: memoryview, where: str) -> tuple[int, int]:
    """The bytes of the header and the offset of the image, which the file really has."""
    magic, version, header_bytes, offset, image_bytes, _ = _FIXED.unpack_from(mapped)
    if magic != MAGIC:
        raise ModelFileError("expected a compiled model, got another file", where)
    if version != VERSION:
        raise ModelFileError(f"expected version {VERSION} of compiled models, got {version}; {_AGAIN}", where)
    if header_bytes > limits.MAX_COMPILED_HEADER_BYTES or offset != _image_offset(header_bytes):
        raise ModelFileError(f"the lengths at its beginning do not fit each other; {_AGAIN}", where)
    if offset + image_bytes != len(mapped):
        raise ModelFileError(f"expected {offset + image_bytes} bytes, got {len(mapped)}: it was cut; {_AGAIN}", where)
    return header_bytes, offset


def _expect(place: Place, ours: str, what: str) -> None:
    if place.text() != ours:
        raise place.fault(f"expected {what} {ours}, got {place.text()[:40]!a}; {_AGAIN}")


def _origin(document: Place) -> Origin:
    family, digest = document["family"].text(), document["source_sha256"].text()
    if family not in FAMILIES:
        raise document["family"].fault(f"expected one of {', '.join(FAMILIES)}, got {family[:40]!a}")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise document["source_sha256"].fault("expected 64 hexadecimal digits")
    return Origin(family, document["source"].text(), digest)


def _scorer(document: Place, forest: Forest, family: str, features: Sequence[str] | None) -> ForestScorer:
    names = _feature_names(document["features"], forest.features, FAMILIES[family], features)
    transform = document["transform"].text()
    if transform not in TRANSFORMS:
        raise document["transform"].fault(f"expected one of {', '.join(TRANSFORMS)}, got {transform[:40]!a}")
    bias = document["bias"].numbers(forest.outputs)
    for i, value in enumerate(bias):
        if not math.isfinite(value):
            raise document["bias"].at(i).fault("expected a finite number")
    return ForestScorer(
        forest,
        names,
        Transform(transform, _finite(document["parameter"]), document["objective"].text()),
        document["divisor"].integer(1, limits.MAX_TREES),
        scale=_finite(document["scale"]),
        bias=bias,
    )


def _feature_names(place: Place, count: int, numbered: str, given: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(name.text() for name in place.items())
    if len(names) != count or len(set(names)) != count or "" in names:
        raise place.fault(f"expected {count} distinct, non-empty names, got {len(names)}")
    return declared_names(
        names,
        tuple(numbered.format(i) for i in range(count)),
        given,
        place.fault,
        lambda i, problem: place.at(i).fault(problem),
    )


def _finite(place: Place) -> float:
    value: Any = place.value
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        raise place.fault("expected a finite number")
    return float(value)
