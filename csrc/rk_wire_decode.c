/* Requests of rankd.v1.RankingService from bytes: one function a message, which goes on with what it is given, so that a
 * message that comes twice is merged. Maps are lists of all that came; what came again is taken out when there is no room, and at the end. */
#include "rk_wire.h"

enum { LIKELY_COLUMNS = 8 };

/* ---- Parts. ---- */

static void timestamp(rk_wire_reader *r, rk_wire_timestamp *value) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_TIMESTAMP_SECONDS: value->seconds = (int64_t)rk_wire_varint(r, RK_WIRE_MOST_VARINT); break;
        case RK_TAG_TIMESTAMP_NANOS: value->nanos = (int32_t)rk_wire_varint(r, RK_WIRE_MOST_VARINT); break;
        default: rk_wire_skip(r, tag);
        }
    }
    rk_wire_leave(r, around);
}

static void query(rk_wire_reader *r, rk_wire_request *request) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_QUERY_TEXT: request->query_text = rk_wire_text(r); break;
        case RK_TAG_QUERY_LANGUAGE_CODE: request->language_code = rk_wire_text(r); break;
        default: rk_wire_skip(r, tag);
        }
    }
    rk_wire_leave(r, around);
}

static void user(rk_wire_reader *r, rk_wire_request *request) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_USER_VISITOR_ID: request->visitor_id = rk_wire_text(r); break;
        case RK_TAG_USER_USER_ID: request->user_id = rk_wire_text(r); break;
        case RK_TAG_USER_SESSION_ID: request->session_id = rk_wire_text(r); break;
        case RK_TAG_USER_SEGMENTS:
            request->segments = rk_wire_texts(r, request->segments, &request->segment_count, tag);
            break;
        default: rk_wire_skip(r, tag);
        }
    }
    rk_wire_leave(r, around);
}

static void column(rk_wire_reader *r, rk_wire_column *value) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_COLUMN_NAME: value->name = rk_wire_text(r); break;
        case RK_TAG_COLUMN_VALUES:
            value->values = rk_wire_packed(r, value->values, &value->count, sizeof *value->values);
            break;
        case RK_TAG_COLUMN_VALUES_UNPACKED:
            value->values = rk_wire_unpacked(r, value->values, &value->count, sizeof *value->values);
            break;
        default: rk_wire_skip(r, tag);
        }
    }
    rk_wire_leave(r, around);
}

static void candidates(rk_wire_reader *r, rk_wire_candidates *list) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_CANDIDATES_IDS: list->ids = rk_wire_texts(r, list->ids, &list->id_count, tag); break;
        case RK_TAG_CANDIDATES_BASE_SCORES:
            list->base_scores = rk_wire_packed(r, list->base_scores, &list->base_score_count, sizeof(double));
            break;
        case RK_TAG_CANDIDATES_BASE_SCORES_UNPACKED:
            list->base_scores = rk_wire_unpacked(r, list->base_scores, &list->base_score_count, sizeof(double));
            break;
        case RK_TAG_CANDIDATES_COLUMNS: {
            rk_wire_column *columns =
                rk_wire_grow(r, list->columns, list->column_count, 1, sizeof *columns, LIKELY_COLUMNS);
            if (!columns) break;
            rk_wire_column *added = columns + list->column_count++;
            *added = (rk_wire_column){0};
            list->columns = columns;
            column(r, added);
            break;
        }
        default: rk_wire_skip(r, tag);
        }
    }
    rk_wire_leave(r, around);
}

/* ---- Context features and labels. An entry of a map that has a field besides its key and value is no entry: upb keeps it
 * as an unknown field, whole. ---- */

static void vector(rk_wire_reader *r, rk_wire_context *value) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        if (tag == RK_TAG_VECTOR_VALUES)
            value->vector = rk_wire_packed(r, value->vector, &value->count, sizeof *value->vector);
        else if (tag == RK_TAG_VECTOR_VALUES_UNPACKED)
            value->vector = rk_wire_unpacked(r, value->vector, &value->count, sizeof *value->vector);
        else
            rk_wire_skip(r, tag);
    }
    rk_wire_leave(r, around);
}

static void set(rk_wire_reader *r, rk_wire_context *value) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        if (tag == RK_TAG_STRING_SET_VALUES)
            value->set = rk_wire_texts(r, value->set, &value->count, tag);
        else
            rk_wire_skip(r, tag);
    }
    rk_wire_leave(r, around);
}

/* The case of the oneof becomes `which`; what another case held is forgotten. */
static void choose(rk_wire_context *value, rk_context_case which) {
    if (value->which != which) *value = (rk_wire_context){.name = value->name, .which = which};
}

static void context_value(rk_wire_reader *r, rk_wire_context *value) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_CONTEXT_VALUE_NUMBER:
            choose(value, RK_CONTEXT_NUMBER);
            rk_wire_fixed(r, &value->number, sizeof value->number);
            break;
        case RK_TAG_CONTEXT_VALUE_CATEGORY:
            choose(value, RK_CONTEXT_CATEGORY);
            value->text = rk_wire_text(r);
            break;
        case RK_TAG_CONTEXT_VALUE_TEXT:
            choose(value, RK_CONTEXT_TEXT);
            value->text = rk_wire_text(r);
            break;
        case RK_TAG_CONTEXT_VALUE_VECTOR:
            choose(value, RK_CONTEXT_VECTOR);
            vector(r, value);
            break;
        case RK_TAG_CONTEXT_VALUE_SET:
            choose(value, RK_CONTEXT_SET);
            set(r, value);
            break;
        case RK_TAG_CONTEXT_VALUE_TIMESTAMP:
            choose(value, RK_CONTEXT_TIMESTAMP);
            timestamp(r, &value->timestamp);
            break;
        case RK_TAG_CONTEXT_VALUE_FLAG:
            choose(value, RK_CONTEXT_FLAG);
            value->flag = rk_wire_varint(r, RK_WIRE_MOST_VARINT) != 0;
            break;
        default: rk_wire_skip(r, tag);
        }
    }
    rk_wire_leave(r, around);
}

static void context_entry(rk_wire_reader *r, rk_wire_request *request) {
    rk_wire_context *all = rk_wire_grow_map(r, request->context, &request->context_count, sizeof *all);
    if (!all) return;
    rk_wire_context *added = all + request->context_count++;
    *added = (rk_wire_context){0};
    request->context = all;
    int strange = 0;
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_RANK_REQUEST_CONTEXT_FEATURES_ENTRY_KEY: added->name = rk_wire_text(r); break;
        case RK_TAG_RANK_REQUEST_CONTEXT_FEATURES_ENTRY_VALUE: context_value(r, added); break;
        default:
            rk_wire_skip(r, tag);
            strange = 1;
        }
    }
    rk_wire_leave(r, around);
    if (strange) request->context_count--;
}

static void label_entry(rk_wire_reader *r, rk_wire_request *request) {
    rk_wire_label *all = rk_wire_grow_map(r, request->labels, &request->label_count, sizeof *all);
    if (!all) return;
    rk_wire_label *added = all + request->label_count++;
    *added = (rk_wire_label){0};
    request->labels = all;
    int strange = 0;
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_RANK_REQUEST_LABELS_ENTRY_KEY: added->key = rk_wire_text(r); break;
        case RK_TAG_RANK_REQUEST_LABELS_ENTRY_VALUE: added->value = rk_wire_text(r); break;
        default:
            rk_wire_skip(r, tag);
            strange = 1;
        }
    }
    rk_wire_leave(r, around);
    if (strange) request->label_count--;
}

/* ---- Requests. ---- */

/* What RankRequest and ScoreRequest have in common, under the same numbers (asserted below). Whether it was such a field. */
static int shared_field(rk_wire_reader *r, rk_wire_request *request, uint32_t tag) {
    switch (tag) {
    case RK_TAG_RANK_REQUEST_PROFILE: request->profile = rk_wire_text(r); return 1;
    case RK_TAG_RANK_REQUEST_SURFACE: request->surface = (int32_t)rk_wire_varint(r, RK_WIRE_MOST_VARINT); return 1;
    case RK_TAG_RANK_REQUEST_REQUEST_ID: request->request_id = rk_wire_text(r); return 1;
    case RK_TAG_RANK_REQUEST_QUERY: query(r, request); return 1;
    case RK_TAG_RANK_REQUEST_USER: user(r, request); return 1;
    case RK_TAG_RANK_REQUEST_CONTEXT_FEATURES: context_entry(r, request); return 1;
    case RK_TAG_RANK_REQUEST_LABELS: label_entry(r, request); return 1;
    case RK_TAG_RANK_REQUEST_CANDIDATES:
        request->has_candidates = 1;
        candidates(r, &request->candidates);
        return 1;
    case RK_TAG_RANK_REQUEST_AS_OF:
        request->has_as_of = 1;
        timestamp(r, &request->as_of);
        return 1;
    default: return 0;
    }
}

#define SAME(field)                                                                             \
    _Static_assert((int)RK_TAG_RANK_REQUEST_##field == (int)RK_TAG_SCORE_REQUEST_##field, #field)
SAME(PROFILE);
SAME(SURFACE);
SAME(REQUEST_ID);
SAME(QUERY);
SAME(USER);
SAME(CONTEXT_FEATURES);
SAME(LABELS);
SAME(CANDIDATES);
SAME(AS_OF);
#undef SAME

static void rank_fields(rk_wire_reader *r, rk_wire_request *request) {
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_RANK_REQUEST_PAGE_SIZE:
            request->has_page_size = 1;
            request->page_size = (uint32_t)rk_wire_varint(r, RK_WIRE_MOST_VARINT);
            break;
        case RK_TAG_RANK_REQUEST_PAGE_TOKEN: request->page_token = rk_wire_text(r); break;
        case RK_TAG_RANK_REQUEST_VIEW: request->view = (int32_t)rk_wire_varint(r, RK_WIRE_MOST_VARINT); break;
        case RK_TAG_RANK_REQUEST_INCLUDE_TIMINGS:
            request->include_timings = rk_wire_varint(r, RK_WIRE_MOST_VARINT) != 0;
            break;
        default:
            if (!shared_field(r, request, tag)) rk_wire_skip(r, tag);
        }
    }
}

static void score_fields(rk_wire_reader *r, rk_wire_request *request) {
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_SCORE_REQUEST_RAW: request->raw = rk_wire_varint(r, RK_WIRE_MOST_VARINT) != 0; break;
        case RK_TAG_SCORE_REQUEST_INCLUDE_FEATURES:
            request->include_features = rk_wire_varint(r, RK_WIRE_MOST_VARINT) != 0;
            break;
        default:
            if (!shared_field(r, request, tag)) rk_wire_skip(r, tag);
        }
    }
}

static void list_message(rk_wire_reader *r, rk_wire_list *list) {
    const uint8_t *around = rk_wire_enter(r);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        switch (tag) {
        case RK_TAG_BATCH_RANK_REQUEST_LIST_REQUEST_ID: list->request_id = rk_wire_text(r); break;
        case RK_TAG_BATCH_RANK_REQUEST_LIST_CANDIDATES: candidates(r, &list->candidates); break;
        case RK_TAG_BATCH_RANK_REQUEST_LIST_PAGE_SIZE:
            list->has_page_size = 1;
            list->page_size = (uint32_t)rk_wire_varint(r, RK_WIRE_MOST_VARINT);
            break;
        case RK_TAG_BATCH_RANK_REQUEST_LIST_PAGE_TOKEN: list->page_token = rk_wire_text(r); break;
        default: rk_wire_skip(r, tag);
        }
    }
    rk_wire_leave(r, around);
}

/* How many fields of that tag follow, up to a fault. */
static size_t count_fields(rk_wire_reader ahead, uint32_t wanted) {
    size_t count = 0;
    for (uint32_t tag; rk_wire_next(&ahead, &tag); rk_wire_skip(&ahead, tag)) count += tag == wanted;
    return count;
}

/* A list is large beside the two bytes that it takes at least, so the array is made of the right size at once. */
static void batch_fields(rk_wire_reader *r, rk_wire_batch *batch) {
    size_t list_count = count_fields(*r, RK_TAG_BATCH_RANK_REQUEST_LISTS);
    for (uint32_t tag; rk_wire_next(r, &tag);) {
        if (tag == RK_TAG_BATCH_RANK_REQUEST_COMMON) {
            const uint8_t *around = rk_wire_enter(r);
            rank_fields(r, &batch->common);
            rk_wire_leave(r, around);
        } else if (tag == RK_TAG_BATCH_RANK_REQUEST_LISTS) {
            rk_wire_list *lists = rk_wire_grow(r, batch->lists, batch->list_count, 1, sizeof *lists, list_count);
            if (!lists) return;
            rk_wire_list *added = lists + batch->list_count++;
            *added = (rk_wire_list){0};
            batch->lists = lists;
            list_message(r, added);
        } else {
            rk_wire_skip(r, tag);
        }
    }
}

static rk_wire_status finish(rk_wire_reader *r, rk_wire_request *request) {
    rk_wire_last_of_keys(r, (void *)(uintptr_t)request->context, &request->context_count, sizeof *request->context);
    rk_wire_last_of_keys(r, (void *)(uintptr_t)request->labels, &request->label_count, sizeof *request->labels);
    return r->status;
}

rk_wire_status rk_wire_decode_rank(const uint8_t *bytes, size_t length, rk_arena *arena, rk_wire_request *request) {
    rk_wire_reader r = rk_wire_open(bytes, length, arena);
    *request = (rk_wire_request){0};
    rank_fields(&r, request);
    return finish(&r, request);
}

rk_wire_status rk_wire_decode_score(const uint8_t *bytes, size_t length, rk_arena *arena, rk_wire_request *request) {
    rk_wire_reader r = rk_wire_open(bytes, length, arena);
    *request = (rk_wire_request){0};
    score_fields(&r, request);
    return finish(&r, request);
}

rk_wire_status rk_wire_decode_batch(const uint8_t *bytes, size_t length, rk_arena *arena, rk_wire_batch *batch) {
    rk_wire_reader r = rk_wire_open(bytes, length, arena);
    *batch = (rk_wire_batch){0};
    batch_fields(&r, batch);
    return finish(&r, &batch->common);
}
