"""Customs desk of csrc/rk_rank.h: copies plans in, results out, and releases the GIL for the whole of a call."""

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, SIZE_MAX, int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

import os

from rankd.kernels.program cimport ProgramKernel
from rankd.kernels.scorer cimport ScorerKernel
from rankd.kernels.table cimport (
    Table,
    TableReading,
    rk_arena,
    rk_arena_free,
    rk_arena_new,
    rk_arena_reset,
    rk_arena_take,
)

from rankd.types.text import normalise, query_key

SOURCES = {
    "signal": 0, "column": 1, "context": 2, "feature": 3, "base_score": 4, "position": 5, "now": 6, "query": 7,
    "language": 8, "surface": 9, "segments": 10,
}
PARTS = {
    "candidate": RK_ID_CANDIDATE, "user": RK_ID_USER, "session": RK_ID_SESSION, "query": RK_ID_QUERY,
    "category": RK_ID_CATEGORY,
}
CONTEXT_FIELDS = {
    "number": RK_CONTEXT_NUMBER, "category": RK_CONTEXT_CATEGORY, "text": RK_CONTEXT_TEXT,
    "vector": RK_CONTEXT_VECTOR, "set": RK_CONTEXT_SET, "timestamp": RK_CONTEXT_TIMESTAMP, "flag": RK_CONTEXT_FLAG,
}
assert len(SOURCES) == RK_SOURCES


def _names(first):
    """Names by number, up to the first number that has none."""
    cdef const char *name
    found = []
    while True:
        name = rk_fault_name(len(found)) if first == "fault" else rk_field_path(len(found))
        if name == NULL:
            return tuple(found)
        found.append(name.decode())


FAULTS = _names("fault")
FIELDS = _names("field")
_MOST_IDLE_CALLS = 32


cdef class _Memory:
    """What a plan's arrays and texts lie in, as long as the plan lives."""

    cdef rk_arena *arena

    def __cinit__(self):
        self.arena = rk_arena_new()
        if self.arena == NULL:
            raise MemoryError

    def __dealloc__(self):
        rk_arena_free(self.arena)

    cdef void *take(self, size_t count, size_t size) except NULL:
        cdef void *made = rk_arena_take(self.arena, count * size)
        if made == NULL:
            raise MemoryError
        memset(made, 0, count * size)
        return made

    cdef rk_text text(self, bytes data) except *:
        cdef rk_text made
        cdef uint8_t *to = <uint8_t *>self.take(len(data), 1)
        memcpy(to, <const char *>data, len(data))
        made.bytes = to
        made.length = len(data)
        return made

    cdef const rk_text *texts(self, names) except NULL:
        cdef rk_text *made = <rk_text *>self.take(len(names), sizeof(rk_text))
        cdef Py_ssize_t i
        for i in range(len(names)):
            made[i] = self.text(names[i].encode())
        return made

    cdef const int32_t *numbers(self, values) except NULL:
        cdef int32_t *made = <int32_t *>self.take(len(values), sizeof(int32_t))
        cdef Py_ssize_t i
        for i in range(len(values)):
            made[i] = values[i]
        return made

    cdef rk_names names(self, names) except *:
        cdef rk_names made
        encoded = [name.encode() for name in names]
        made.names = self.texts(names)
        made.sorted = self.numbers(sorted(range(len(encoded)), key=encoded.__getitem__))
        made.count = len(encoded)
        return made


cdef class PlanKernel:
    """A checked, immutable plan; see rank.pyi."""

    cdef rk_plan _plan
    cdef _Memory _memory
    cdef tuple _held

    def __init__(self, *, str name, versions, ProgramKernel features not None, feature_inputs, feature_names,
                 ProgramKernel base, base_inputs, ScorerKernel scorer, output_names, model_rows, rerank_count, reads,
                 categories, columns, contexts, Table dictionary not None, double candidate_cost, double scored_cost):
        cdef rk_plan *plan = &self._plan
        if self._memory is not None:
            raise ValueError("the plan is made already")
        self._memory = _Memory()
        plan.name = self._memory.text(name.encode())
        profile_version, model_version, schema_version = versions
        plan.profile_version = self._memory.text(profile_version.encode())
        plan.model_version = self._memory.text(model_version.encode())
        plan.schema_version = self._memory.text(schema_version.encode())
        plan.features = self._program(features, feature_inputs, len(feature_names))
        plan.feature_names = self._memory.texts(feature_names)
        plan.feature_count = len(feature_names)
        if base is not None:
            plan.base = self._program(base, base_inputs, 1)
        if scorer is not None:
            self._model(scorer, output_names, model_rows)
        plan.rerank_count = SIZE_MAX if rerank_count is None else rerank_count
        self._reads(reads)
        self._categories(categories)
        plan.columns = self._memory.names(columns)
        self._contexts(contexts)
        plan.dictionary = dictionary.table
        plan.candidate_cost = candidate_cost
        plan.scored_cost = scored_cost
        self._held = (features, base, scorer, tuple(read[:2] for read in reads), categories, dictionary)
        if rk_plan_check(plan):
            raise ValueError(f"plan {name}: an index, a count or a kind is out of its bounds")

    cdef rk_bound_program _program(self, ProgramKernel program, inputs, int32_t outputs) except *:
        cdef rk_bound_program made
        cdef rk_binding *bindings = <rk_binding *>self._memory.take(len(inputs), sizeof(rk_binding))
        cdef int32_t i
        if len(inputs) != program._input_count or outputs != program._output_count:
            raise ValueError(f"expected {program._input_count} inputs and {program._output_count} outputs,"
                             f" got {len(inputs)} and {outputs}")
        for i in range(program._input_count):
            source, index, reading = inputs[i]
            bindings[i] = rk_binding(SOURCES[source], index, reading, program._inputs[i].kind,
                                     program._inputs[i].dimension)
        made.program = program._program
        made.inputs = bindings
        made.input_count = len(inputs)
        return made

    cdef int _model(self, ScorerKernel scorer, output_names, model_rows) except -1:
        if <size_t>len(output_names) != scorer._scorer.outputs:
            raise ValueError(f"expected {scorer._scorer.outputs} names of outputs, got {len(output_names)}")
        if model_rows is not None and <size_t>len(model_rows) != scorer._scorer.features:
            raise ValueError(f"expected {scorer._scorer.features} rows, got {len(model_rows)}")
        self._plan.scorer = &scorer._scorer
        self._plan.output_names = self._memory.texts(output_names)
        if model_rows is not None:
            self._plan.model_rows = self._memory.numbers(model_rows)
        return 0

    cdef int _reads(self, reads) except -1:
        cdef rk_plan_read *made = <rk_plan_read *>self._memory.take(len(reads), sizeof(rk_plan_read))
        cdef TableReading reading, dated
        cdef Py_ssize_t i
        for i in range(len(reads)):
            reading, dated, names, parts, by_key, is_fetched = reads[i]
            made[i] = rk_plan_read(reading.reading, dated.reading, self._memory.texts(names), self._parts(parts),
                                   len(names), len(parts), by_key, is_fetched)
            self._plan.fetched_count += bool(is_fetched)
        self._plan.reads = made
        self._plan.read_count = len(reads)
        return 0

    cdef const rk_id_part *_parts(self, parts) except NULL:
        cdef rk_id_part *made = <rk_id_part *>self._memory.take(len(parts), sizeof(rk_id_part))
        cdef Py_ssize_t i
        for i in range(len(parts)):
            made[i] = rk_id_part(PARTS[parts[i][0]], parts[i][1])
        return made

    cdef int _categories(self, categories) except -1:
        cdef TableReading reading
        if categories is not None:
            reading, self._plan.category_count = categories
            self._plan.categories = reading.reading
        return 0

    cdef int _contexts(self, contexts) except -1:
        cdef rk_declared_context *made = <rk_declared_context *>self._memory.take(
            len(contexts), sizeof(rk_declared_context))
        cdef Py_ssize_t i
        for i in range(len(contexts)):
            made[i] = rk_declared_context(CONTEXT_FIELDS[contexts[i][1]], contexts[i][2])
        self._plan.contexts = self._memory.names([name for name, _, _ in contexts])
        self._plan.declared = made
        return 0


cdef str _str(rk_text text):
    return (<const char *>text.bytes)[:text.length].decode() if text.length else ""


cdef tuple _fault(const rk_fault *fault, rk_text request_id):
    return (
        rk_fault_name(fault.kind).decode(), rk_field_path(fault.field).decode(), fault.index, fault.at, fault.limit,
        fault.count, fault.other, fault.number, _str(fault.text), _str(fault.name), _str(request_id),
    )


cdef class CallKernel:
    """One call's memory, and the call while it runs. Used by one thread at a time."""

    cdef rk_rank_call _call
    cdef rk_rank_options _options
    cdef tuple _held
    cdef RankKernel _ranker
    cdef bint _is_open

    def __cinit__(self):
        self._call.arena = rk_arena_new()
        self._call.scratch = rk_arena_new()
        if self._call.arena == NULL or self._call.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self._call.arena != NULL:
            rk_arena_free(self._call.arena)
        if self._call.scratch != NULL:
            rk_arena_free(self._call.scratch)

    @property
    def cost(self):
        return self._call.cost

    @property
    def plan_number(self):
        return self._call.plan_number

    @property
    def wants(self):
        cdef const rk_rank_want *want
        cdef size_t i, k
        if not self._is_open:
            raise ValueError("the call has run")
        made = []
        for i in range(self._call.want_count):
            want = &self._call.wants[i]
            made.append((want.read, [_str(want.ids[k]) for k in range(want.count)]))
        return made

    def run(self, bytes told=b""):
        if not self._is_open:
            raise ValueError("a call runs once")
        self._is_open = False
        self._call.told.bytes = <const uint8_t *><const char *>told
        self._call.told.length = len(told)
        with nogil:
            rk_rank_run(&self._call)
        return self._finish()

    cdef int _normalise(self) except -1:
        """The texts that are not ASCII, by rankd.types.text."""
        cdef size_t i
        cdef uint8_t *to
        cdef bytes normal
        for i in range(self._call.need_count):
            text = _str(self._call.needs[i].text)
            normal = query_key(text).encode() if self._call.needs[i].is_key else normalise(text)
            to = <uint8_t *>rk_arena_take(self._call.arena, len(normal))
            if to == NULL:
                raise MemoryError
            memcpy(to, <const char *>normal, len(normal))
            self._call.needs[i].normal.bytes = to
            self._call.needs[i].normal.length = len(normal)
        return 0

    cdef tuple _finish(self):
        """What came of it, in Python's own objects; the memory goes back to the ranker."""
        cdef rk_rank_call *call = &self._call
        cdef size_t i
        faults, stages = [], []
        failed = call.fault.kind != RK_FAULT_NONE
        if not failed and call.lists != NULL:
            for i in range(call.list_count):
                if call.lists[i].fault.kind != RK_FAULT_NONE:
                    faults.append((i, call.lists[i].offset, _fault(&call.lists[i].fault, call.lists[i].request_id)))
        for i in range(call.stage_count):
            stages.append((
                rk_stage_name(call.stages[i].stage).decode(), call.stages[i].start_ns, call.stages[i].end_ns,
                call.stages[i].candidate_count, call.stages[i].list, call.stages[i].missing_count,
            ))
        result = (
            b"" if failed else (<const char *>call.answer.bytes)[:call.answer.length],
            _fault(&call.fault, call.request_id) if failed else None,
            faults,
            call.plan_number,
            _str(call.request_id),
            call.candidate_count, call.missing_count, call.rescored_count, call.returned_count, call.list_count,
            bool(call.degraded),
            stages,
        )
        self._held = None
        rk_arena_reset(call.arena)
        rk_arena_reset(call.scratch)
        if len(self._ranker._idle) < _MOST_IDLE_CALLS:
            self._ranker._idle.append(self)
        return result


cdef class RankKernel:
    """An immutable set of plans; see rank.pyi. `_idle`: calls whose memory can be used again."""

    cdef rk_plan_set _set
    cdef _Memory _memory
    cdef tuple _plans
    cdef list _idle

    def __init__(self, plans, limits):
        cdef const rk_plan **pointers
        cdef PlanKernel plan
        cdef Py_ssize_t i
        if self._memory is not None:
            raise ValueError("the set is made already")
        self._memory = _Memory()
        self._plans = tuple(plans)
        self._idle = []
        pointers = <const rk_plan **>self._memory.take(len(self._plans), sizeof(rk_plan *))
        for i in range(len(self._plans)):
            plan = self._plans[i]
            pointers[i] = &plan._plan
        self._set.plans = pointers
        self._set.names = self._memory.names([_str((<PlanKernel>plan)._plan.name) for plan in self._plans])
        self._set.limits = limits
        self._set.seed[0] = int.from_bytes(os.urandom(8), "little")
        self._set.seed[1] = int.from_bytes(os.urandom(8), "little")

    def rank(self, int method, bytes data not None, bytes request_id not None, double now_s, deadline_ns,
             double inline_cost, max_rescored, bytes degradation not None, bint with_stages):
        if not 0 <= method <= RK_METHOD_SCORE:
            raise ValueError(f"no method has the number {method}")
        cdef CallKernel call = self._idle.pop() if self._idle else CallKernel()
        cdef rk_text request
        cdef bint runs
        request.bytes = <const uint8_t *><const char *>data
        request.length = len(data)
        call._ranker = self
        call._held = (data, request_id, degradation)
        call._call.plans = &self._set
        call._options.request_id.bytes = <const uint8_t *><const char *>request_id
        call._options.request_id.length = len(request_id)
        call._options.now_s = now_s
        call._options.deadline_ns = INT64_MAX if deadline_ns is None else deadline_ns
        call._options.max_rescored = SIZE_MAX if max_rescored is None else max_rescored
        call._options.degradation.bytes = <const uint8_t *><const char *>degradation
        call._options.degradation.length = len(degradation)
        call._options.with_stages = with_stages
        call._is_open = False
        with nogil:
            rk_rank_prepare(&call._call, method, request, &call._options)
            runs = (call._call.fault.kind == RK_FAULT_NONE and not call._call.need_count
                    and not call._call.plan.fetched_count and call._call.cost <= inline_cost)
            if runs:
                rk_rank_run(&call._call)
        if runs or call._call.fault.kind != RK_FAULT_NONE:
            return call._finish()
        call._normalise()
        if call._call.plan.fetched_count:
            with nogil:
                rk_rank_want_rows(&call._call)
            if call._call.fault.kind != RK_FAULT_NONE:
                return call._finish()
        call._is_open = True
        return call if call._call.cost > inline_cost or call._call.want_count else call.run()
