# Mirrors csrc/rk_rank.h, which states the contract.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from rankd.kernels.id_index cimport rk_id
from rankd.kernels.program cimport rk_program
from rankd.kernels.scorer cimport rk_scorer
from rankd.kernels.table cimport rk_arena, rk_table, rk_table_reading

cdef extern from "rk_rank.h" nogil:
    ctypedef rk_id rk_text
    ctypedef int rk_method

    cdef enum:
        RK_SOURCES
        RK_ID_CANDIDATE
        RK_ID_USER
        RK_ID_SESSION
        RK_ID_QUERY
        RK_ID_CATEGORY
        RK_CONTEXT_NUMBER
        RK_CONTEXT_CATEGORY
        RK_CONTEXT_TEXT
        RK_CONTEXT_VECTOR
        RK_CONTEXT_SET
        RK_CONTEXT_TIMESTAMP
        RK_CONTEXT_FLAG
        RK_FAULT_NONE
        RK_METHOD_SCORE

    ctypedef struct rk_binding:
        int32_t source
        int32_t index
        int32_t reading
        int32_t kind
        int32_t dimension

    ctypedef struct rk_bound_program:
        const rk_program *program
        const rk_binding *inputs
        size_t input_count

    ctypedef struct rk_id_part:
        int32_t source
        int32_t column

    ctypedef struct rk_plan_read:
        const rk_table_reading *reading
        const rk_table_reading *dated
        const rk_text *names
        const rk_id_part *parts
        size_t column_count
        size_t part_count
        int32_t by_key
        int32_t is_fetched

    ctypedef struct rk_names:
        const rk_text *names
        const int32_t *sorted
        size_t count

    ctypedef struct rk_declared_context:
        int32_t which
        int32_t dimension

    ctypedef struct rk_plan:
        rk_text name
        rk_text profile_version
        rk_text model_version
        rk_text schema_version
        rk_bound_program features
        rk_bound_program base
        const rk_text *feature_names
        size_t feature_count
        const rk_scorer *scorer
        const rk_text *output_names
        const int32_t *model_rows
        size_t rerank_count
        const rk_plan_read *reads
        size_t read_count
        size_t fetched_count
        const rk_table_reading *categories
        size_t category_count
        rk_names columns
        rk_names contexts
        const rk_declared_context *declared
        const rk_table *dictionary
        double candidate_cost
        double scored_cost

    int rk_plan_check(const rk_plan *plan)

    ctypedef struct rk_rank_limits:
        size_t candidates
        size_t columns
        size_t id_bytes
        size_t batch_lists
        size_t batch_candidates
        size_t query_bytes
        size_t language_bytes
        size_t request_id_bytes
        size_t segments
        size_t labels
        size_t label_bytes
        size_t set_members

    ctypedef struct rk_plan_set:
        const rk_plan **plans
        rk_names names
        rk_rank_limits limits
        uint64_t seed[2]

    ctypedef struct rk_fault:
        int kind
        int field
        int64_t index
        int64_t at
        int64_t limit
        int64_t count
        int64_t other
        double number
        rk_text text
        rk_text name

    const char *rk_fault_name(int32_t kind)
    const char *rk_field_path(int32_t field)
    const char *rk_stage_name(int32_t stage)

    ctypedef struct rk_stage_time:
        int32_t stage
        int64_t list
        int64_t start_ns
        int64_t end_ns
        size_t candidate_count
        size_t missing_count

    ctypedef struct rk_rank_options:
        rk_text request_id
        double now_s
        int64_t deadline_ns
        size_t max_rescored
        rk_text degradation
        int with_stages

    ctypedef struct rk_text_need:
        rk_text text
        rk_text normal
        int is_key

    ctypedef struct rk_list_result:
        rk_fault fault
        rk_text request_id
        size_t offset

    ctypedef struct rk_rank_want:
        size_t read
        const rk_text *ids
        size_t count

    ctypedef struct rk_rank_call:
        rk_arena *arena
        rk_arena *scratch
        const rk_plan_set *plans
        const rk_plan *plan
        int64_t plan_number
        rk_fault fault
        rk_text request_id
        rk_text answer
        double cost
        rk_text_need *needs
        size_t need_count
        const rk_rank_want *wants
        size_t want_count
        rk_text told
        rk_list_result *lists
        size_t list_count
        rk_stage_time *stages
        size_t stage_count
        size_t candidate_count
        size_t missing_count
        size_t rescored_count
        size_t returned_count
        int degraded

    void rk_rank_prepare(rk_rank_call *call, rk_method method, rk_text request, const rk_rank_options *options)
    void rk_rank_want_rows(rk_rank_call *call)
    void rk_rank_run(rk_rank_call *call)
