"""The wire codec of csrc/rk_wire_rank, as plain values, for the tests that hold it against protobuf. Serving never comes here.

Texts are str, numbers int and float, repeated fields lists, sub-messages and maps dicts.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

import numpy as np


cdef extern from "rk_arena.h":
    ctypedef struct rk_arena:
        pass

    rk_arena *rk_arena_new()
    void rk_arena_free(rk_arena *arena)
    void *rk_arena_array(rk_arena *arena, size_t count, size_t size)


cdef extern from "rk_wire_rank.h":
    ctypedef struct rk_text:
        const uint8_t *bytes
        size_t length

    ctypedef struct rk_wire_timestamp:
        int64_t seconds
        int32_t nanos

    ctypedef struct rk_wire_context:
        rk_text name
        int which
        double number
        rk_text text
        const float *vector
        const rk_text *set
        size_t count
        rk_wire_timestamp timestamp
        int flag

    ctypedef struct rk_wire_label:
        rk_text key
        rk_text value

    ctypedef struct rk_wire_column:
        rk_text name
        const float *values
        size_t count

    ctypedef struct rk_wire_candidates:
        const rk_text *ids
        const double *base_scores
        const rk_wire_column *columns
        size_t id_count, base_score_count, column_count

    ctypedef struct rk_wire_request:
        rk_text profile, request_id, query_text, language_code, visitor_id, user_id, session_id, page_token
        int32_t surface, view
        const rk_text *segments
        const rk_wire_context *context
        const rk_wire_label *labels
        size_t segment_count, context_count, label_count
        rk_wire_candidates candidates
        int has_candidates, has_as_of, has_page_size, include_timings, raw, include_features
        uint32_t page_size
        rk_wire_timestamp as_of

    ctypedef struct rk_wire_list:
        rk_text request_id, page_token
        rk_wire_candidates candidates
        int has_page_size
        uint32_t page_size

    ctypedef struct rk_wire_batch:
        rk_wire_request common
        const rk_wire_list *lists
        size_t list_count

    ctypedef enum rk_wire_status:
        RK_WIRE_OK
        RK_WIRE_MALFORMED
        RK_WIRE_NO_MEMORY

    rk_wire_status rk_wire_decode_rank(const uint8_t *, size_t, rk_arena *, rk_wire_request *) nogil
    rk_wire_status rk_wire_decode_score(const uint8_t *, size_t, rk_arena *, rk_wire_request *) nogil
    rk_wire_status rk_wire_decode_batch(const uint8_t *, size_t, rk_arena *, rk_wire_batch *) nogil

    ctypedef struct rk_wire_named:
        rk_text name
        const float *values
        const double *doubles

    ctypedef struct rk_wire_timing:
        rk_text stage
        double microseconds

    ctypedef struct rk_wire_answer:
        rk_text request_id, profile_version, model_version, schema_version, next_page_token
        const rk_text *ids
        const int64_t *indexes
        size_t count
        uint32_t first_rank, total_count, rescored_count
        const double *scores
        const double *base_scores
        const rk_wire_named *features
        size_t feature_count
        const int64_t *missing
        size_t missing_count
        const rk_wire_timing *timings
        size_t timing_count
        const rk_wire_named *ages
        size_t age_count
        rk_text told
        rk_text degradation

    ctypedef struct rk_wire_scores:
        rk_text request_id, profile_version, model_version, schema_version
        const rk_text *ids
        size_t count
        const rk_wire_named *outputs
        const rk_wire_named *features
        const rk_wire_named *ages
        size_t output_count, feature_count, age_count
        const int64_t *missing
        size_t missing_count
        rk_text told

    size_t rk_wire_answer_size(const rk_wire_answer *answer) nogil
    uint8_t *rk_wire_encode_answer(const rk_wire_answer *answer, uint8_t *out) nogil
    size_t rk_wire_scores_size(const rk_wire_scores *scores) nogil
    uint8_t *rk_wire_encode_scores(const rk_wire_scores *scores, uint8_t *out) nogil
    size_t rk_wire_result_size(const rk_wire_answer *answer) nogil
    uint8_t *rk_wire_encode_result(const rk_wire_answer *answer, uint8_t *out) nogil


CASES = (None, "number", "category", "text", "vector", "set", "timestamp", "flag")


cdef class _Arena:
    """An rk_arena, and the Python objects that encoded messages point into."""

    cdef rk_arena *arena
    cdef list held

    def __cinit__(self):
        self.held = []
        self.arena = rk_arena_new()
        if self.arena is NULL:
            raise MemoryError

    def __dealloc__(self):
        rk_arena_free(self.arena)

    cdef void *array(self, size_t count, size_t size) except NULL:
        cdef void *piece = rk_arena_array(self.arena, count, size)
        if piece is NULL:
            raise MemoryError
        return piece

    cdef rk_text text(self, str value) except *:
        cdef bytes encoded = value.encode()
        cdef rk_text view
        self.held.append(encoded)
        view.bytes = encoded
        view.length = len(encoded)
        return view

    cdef const rk_text *texts(self, values) except NULL:
        cdef rk_text *views = <rk_text *>self.array(len(values), sizeof(rk_text))
        for i, value in enumerate(values):
            views[i] = self.text(value)
        return views

    cdef const int64_t *positions(self, values, size_t bound) except? NULL:
        cdef int64_t[::1] array = np.array(values, np.int64)
        if not all(0 <= value < bound for value in values):
            raise ValueError(f"expected positions of {bound} ids, got {values}")
        self.held.append(array)
        return &array[0] if array.shape[0] else NULL

    cdef const double *doubles(self, values, size_t count) except? NULL:
        cdef double[::1] array = np.array(values, np.float64)
        if array.shape[0] < <Py_ssize_t>count:
            raise ValueError(f"expected {count} values, got {array.shape[0]}")
        self.held.append(array)
        return &array[0] if array.shape[0] else NULL

    cdef const float *floats(self, values, size_t count) except? NULL:
        cdef float[::1] array = np.array(values, np.float32)
        if array.shape[0] < <Py_ssize_t>count:
            raise ValueError(f"expected {count} values, got {array.shape[0]}")
        self.held.append(array)
        return &array[0] if array.shape[0] else NULL

    cdef const rk_wire_named *named(self, columns, size_t count, bint double) except NULL:
        cdef rk_wire_named *views = <rk_wire_named *>self.array(len(columns), sizeof(rk_wire_named))
        for i, (name, values) in enumerate(columns):
            views[i].name = self.text(name)
            views[i].doubles, views[i].values = NULL, NULL
            if double:
                views[i].doubles = self.doubles(values, count)
            else:
                views[i].values = self.floats(values, count)
        return views

    cdef const rk_wire_timing *timings(self, times) except NULL:
        cdef rk_wire_timing *views = <rk_wire_timing *>self.array(len(times), sizeof(rk_wire_timing))
        for i, (stage, microseconds) in enumerate(times):
            views[i].stage = self.text(stage)
            views[i].microseconds = microseconds
        return views


cdef str _text(rk_text value):
    return (<const char *>value.bytes)[:value.length].decode("utf-8") if value.length else ""


cdef list _texts(const rk_text *values, size_t count):
    return [_text(values[i]) for i in range(count)]


cdef list _floats(const float *values, size_t count):
    return [values[i] for i in range(count)]


cdef tuple _timestamp(rk_wire_timestamp value):
    return value.seconds, value.nanos


cdef dict _candidates(const rk_wire_candidates *value):
    return {
        "ids": _texts(value.ids, value.id_count),
        "base_scores": [value.base_scores[i] for i in range(value.base_score_count)],
        "columns": [
            (_text(value.columns[i].name), _floats(value.columns[i].values, value.columns[i].count))
            for i in range(value.column_count)
        ],
    }


cdef tuple _context(const rk_wire_context *value):
    cdef str which = CASES[value.which]
    content = None
    if which == "number":
        content = value.number
    elif which in ("category", "text"):
        content = _text(value.text)
    elif which == "vector":
        content = _floats(value.vector, value.count)
    elif which == "set":
        content = _texts(value.set, value.count)
    elif which == "timestamp":
        content = _timestamp(value.timestamp)
    elif which == "flag":
        content = bool(value.flag)
    return which, content


cdef dict _request(const rk_wire_request *value):
    return {
        "profile": _text(value.profile),
        "surface": value.surface,
        "request_id": _text(value.request_id),
        "query": (_text(value.query_text), _text(value.language_code)),
        "user": (_text(value.visitor_id), _text(value.user_id), _text(value.session_id)),
        "segments": _texts(value.segments, value.segment_count),
        "context_features": {_text(value.context[i].name): _context(&value.context[i])
                             for i in range(value.context_count)},
        "labels": {_text(value.labels[i].key): _text(value.labels[i].value) for i in range(value.label_count)},
        "map_sizes": (value.context_count, value.label_count),
        "candidates": _candidates(&value.candidates),
        "has_candidates": bool(value.has_candidates),
        "as_of": _timestamp(value.as_of) if value.has_as_of else None,
        "page_size": value.page_size if value.has_page_size else None,
        "page_token": _text(value.page_token),
        "view": value.view,
        "include_timings": bool(value.include_timings),
        "raw": bool(value.raw),
        "include_features": bool(value.include_features),
    }


cdef dict _list(const rk_wire_list *value):
    return {
        "request_id": _text(value.request_id),
        "candidates": _candidates(&value.candidates),
        "page_size": value.page_size if value.has_page_size else None,
        "page_token": _text(value.page_token),
    }


def decode(str kind, const uint8_t[::1] data):
    """A message (kind "rank", "score" or "batch") as a dict; None if the bytes are no such message."""
    cdef _Arena arena = _Arena()
    cdef rk_wire_request request
    cdef rk_wire_batch batch
    cdef rk_wire_status status
    cdef size_t length = data.shape[0]
    cdef const uint8_t *first = &data[0] if length else NULL
    if kind == "batch":
        status = rk_wire_decode_batch(first, length, arena.arena, &batch)
    elif kind == "score":
        status = rk_wire_decode_score(first, length, arena.arena, &request)
    elif kind == "rank":
        status = rk_wire_decode_rank(first, length, arena.arena, &request)
    else:
        raise ValueError(f"expected rank, score or batch, got {kind!r}")
    if status == RK_WIRE_NO_MEMORY:
        raise MemoryError
    if status != RK_WIRE_OK:
        return None
    if kind != "batch":
        return _request(&request)
    return {"common": _request(&batch.common), "lists": [_list(&batch.lists[i]) for i in range(batch.list_count)]}


cdef bytes _checked(bytes written, size_t end):
    if end != <size_t>len(written):
        raise AssertionError(f"the size was said to be {len(written)}, and {end} bytes were written")
    return written


def encode_answer(
    *, ids, indexes, request_id="", versions=("", "", ""), first_rank=1, scores=None, base_scores=None, features=(),
    signal_ages=(), total_count=0, rescored_count=0, missing=(), next_page_token="", timings=(), bytes told=b"",
    bytes degradation=b"", bint as_result=False,
):
    """A RankResponse, or a BatchRankResponse that has it as its one result. Columns are (name, values by candidate)."""
    cdef _Arena arena = _Arena()
    cdef rk_wire_answer answer
    answer.request_id = arena.text(request_id)
    answer.profile_version = arena.text(versions[0])
    answer.model_version = arena.text(versions[1])
    answer.schema_version = arena.text(versions[2])
    answer.next_page_token = arena.text(next_page_token)
    answer.ids = arena.texts(ids)
    answer.indexes = arena.positions(indexes, len(ids))
    answer.count = len(indexes)
    answer.first_rank, answer.total_count, answer.rescored_count = first_rank, total_count, rescored_count
    answer.scores, answer.base_scores = NULL, NULL
    if scores is not None:
        answer.scores = arena.doubles(scores, len(ids))
    if base_scores is not None:
        answer.base_scores = arena.doubles(base_scores, len(ids))
    answer.features, answer.feature_count = arena.named(features, len(ids), False), len(features)
    answer.missing, answer.missing_count = arena.positions(missing, len(ids)), len(missing)
    answer.timings, answer.timing_count = arena.timings(timings), len(timings)
    answer.ages, answer.age_count = arena.named(signal_ages, len(ids), False), len(signal_ages)
    answer.told.bytes = <const uint8_t *><const char *>told
    answer.told.length = len(told)
    answer.degradation.bytes = <const uint8_t *><const char *>degradation
    answer.degradation.length = len(degradation)
    cdef bytes out = bytes(rk_wire_result_size(&answer) if as_result else rk_wire_answer_size(&answer))
    cdef uint8_t *start = out
    if as_result:
        return _checked(out, rk_wire_encode_result(&answer, start) - start)
    return _checked(out, rk_wire_encode_answer(&answer, start) - start)


def encode_scores(*, ids, request_id="", versions=("", "", ""), outputs=(), features=(), missing=(), signal_ages=(),
                  bytes told=b""):
    """A ScoreResponse. Columns are (name, values)."""
    cdef _Arena arena = _Arena()
    cdef rk_wire_scores scores
    scores.request_id = arena.text(request_id)
    scores.profile_version = arena.text(versions[0])
    scores.model_version = arena.text(versions[1])
    scores.schema_version = arena.text(versions[2])
    scores.ids, scores.count = arena.texts(ids), len(ids)
    scores.outputs, scores.output_count = arena.named(outputs, len(ids), True), len(outputs)
    scores.features, scores.feature_count = arena.named(features, len(ids), False), len(features)
    scores.missing, scores.missing_count = arena.positions(missing, len(ids)), len(missing)
    scores.ages, scores.age_count = arena.named(signal_ages, len(ids), False), len(signal_ages)
    scores.told.bytes = <const uint8_t *><const char *>told
    scores.told.length = len(told)
    cdef bytes out = bytes(rk_wire_scores_size(&scores))
    cdef uint8_t *start = out
    return _checked(out, rk_wire_encode_scores(&scores, start) - start)
