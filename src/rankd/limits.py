"""Every bound, named, with its unit. Settings may lower or raise the first group up to the hard ones."""

from __future__ import annotations

from dataclasses import dataclass

HARD_MAX_CANDIDATES = 1_000_000
HARD_MAX_ID_BYTES = 65_536
HARD_MAX_MESSAGE_BYTES = 256 * 1024 * 1024

MAX_QUERY_BYTES = 8_192
MAX_LANGUAGE_BYTES = 64
MAX_REQUEST_ID_BYTES = 128
MAX_SEGMENTS = 256
MAX_LABELS = 16
MAX_LABEL_BYTES = 128

MAX_CATEGORY_BYTES = 256
MAX_STRING_BYTES = 65_536
MAX_SET_MEMBERS = 4_096
MAX_CATEGORIES = 16_000_000
"""Distinct category strings of one store, over all signals."""
MAX_CATEGORY_TABLE_BYTES = 8 * 1024**3
"""Of the dictionary of category strings on one machine."""

MAX_LIST_MEMBERS = 4_096
MAX_WINDOW_BUCKETS = 4_096
LEAST_BUCKET_S = 1.0
"""Bucket numbers of shorter ones are past int32 today."""

MAX_EVENT_AHEAD_MS = 3_600_000
"""How far ahead of the clock a value's time may be."""
MAX_WRITE_ID_BYTES = 128
"""Of write ids and event ids."""
MAX_EVENT_TYPE_BYTES = 64
MAX_EVENT_PROPERTIES = 64
MAX_PROPERTY_BYTES = 8_192
"""Of a property that is a text."""

MAX_EMBEDDING_DIMENSION = 4_096
MAX_NAME_CHARS = 64
"""Names of entities, signals, features, columns, profiles and models."""

MAX_EXPRESSION_CHARS = 10_000
MAX_EXPRESSION_NODES = 2_000
MAX_EXPRESSION_DEPTH = 100
MAX_FEATURES = 4_096

MAX_WORKSPACE_FILE_BYTES = 4 * 1024 * 1024
MAX_WORKSPACE_VALUES = 200_000
"""Values of a rankd.yaml, keys not counted, aliases counted as often as they are used."""
MAX_WORKSPACE_DEPTH = 32
"""Mappings and lists inside one another in a rankd.yaml."""

MAX_MODEL_FILE_BYTES = 2 * 1024**3
MAX_LINEAR_FILE_BYTES = 16 * 1024**2
MAX_CATBOOST_FILE_BYTES = 256 * 1024**2
"""Read whole as JSON, which takes up to some 30 times as much memory for a while."""
MAX_COMPILED_FILE_BYTES = 16 * 1024**3
MAX_COMPILED_HEADER_BYTES = 64 * 1024**2
MAX_TREES = 100_000
MAX_LEAVES_PER_TREE = 65_536
MAX_MODEL_FEATURES = 65_536
MAX_MODEL_OUTPUTS = 1_024
MAX_MODEL_VALUES = 4_000_000
"""Objects, lists, texts and single numbers of a JSON or UBJSON model file; lists of numbers count once."""
MAX_MODEL_DEPTH = 32
MAX_MODEL_TEXT_BYTES = 1024**2
MAX_MODEL_ARRAY = 2**24
MAX_MODEL_NUMBERS = 2**28
"""Numbers in one list of a model file, and in all of them."""
MAX_MODEL_CATEGORY_WORDS = 2**26
"""Words of 32 categories in all category sets of a model."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The bounds a server enforces on requests before it allocates for them."""

    max_candidates: int = 10_000
    max_columns: int = 1_024
    max_id_bytes: int = 512
    max_message_bytes: int = 16 * 1024 * 1024
    max_batch_lists: int = 128
    max_batch_candidates: int = 50_000
    max_write_rows: int = 10_000
    max_rows_per_entity: int = 50_000_000
    max_bytes_per_entity: int = 64 * 1024**3
    max_read_bytes: int = 32 * 1024 * 1024


HARD_REQUEST_LIMITS = RequestLimits(
    max_candidates=HARD_MAX_CANDIDATES,
    max_columns=65_536,
    max_id_bytes=HARD_MAX_ID_BYTES,
    max_message_bytes=HARD_MAX_MESSAGE_BYTES,
    max_batch_lists=65_536,
    max_batch_candidates=HARD_MAX_CANDIDATES,
    max_write_rows=1_000_000,
    max_rows_per_entity=2_000_000_000,
    max_bytes_per_entity=1024**4,
    max_read_bytes=HARD_MAX_MESSAGE_BYTES,
)
"""What no setting may exceed."""
