"""The one table of span and attribute names.

RPC names follow the OpenTelemetry semantic conventions for RPC (release candidate, 2026);
rankd's own start with `rankd.`. docs/tracing.md explains each.
"""

from __future__ import annotations

from typing import Final

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"

REQUEST_ID: Final = "rankd.request_id"
SESSION_ID: Final = "session.id"
SURFACE: Final = "rankd.surface"
LABEL_PREFIX: Final = "rankd.label."
ERROR_REASON: Final = "rankd.error.reason"

PROFILE: Final = "rankd.profile.name"
PROFILE_VERSION: Final = "rankd.profile.version"
MODEL_VERSION: Final = "rankd.model.version"
SCHEMA_VERSION: Final = "rankd.schema.version"

CANDIDATES: Final = "rankd.candidates"
"""On the root: how many came. On a stage: how many it worked on."""
MISSING: Final = "rankd.candidates.missing"
RESCORED: Final = "rankd.candidates.rescored"
RETURNED: Final = "rankd.candidates.returned"

LISTS: Final = "rankd.batch.lists"
LISTS_FAILED: Final = "rankd.batch.lists.failed"
LIST_INDEX: Final = "rankd.batch.list"

ENTITY: Final = "rankd.entity"
BATCHES: Final = "rankd.batches"
"""Of a stream: how many were answered, or pages sent."""
ROWS: Final = "rankd.rows"
ROWS_REJECTED: Final = "rankd.rows.rejected"
