"""The stored schema of signals shared through Redis: as declared there, beside the workspace's."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from rankd.errors import StoreError
from rankd.server.stores import redis_options
from rankd.signals.declared import differences
from rankd.signals.migration import Fate, Plan, plan_of
from rankd.signals.redis.connection import open_connection
from rankd.signals.redis.rows import RedisRows
from rankd.types.schema import Entity

if TYPE_CHECKING:
    from rankd.workspace import Workspace


def plan_shared(workspace: Workspace, drops: Collection[str]) -> Plan:
    """What is declared in Redis otherwise than in the workspace; values are not counted, and not converted.
    UnavailableError; StoreError."""
    return asyncio.run(_run(workspace, drops, is_dry=True))


def drop_shared(workspace: Workspace, drops: Collection[str]) -> Plan:
    """Drops what is named, which must be all that differs: then no machine may still have the old declarations."""
    return asyncio.run(_run(workspace, drops, is_dry=False))


async def _run(workspace: Workspace, drops: Collection[str], is_dry: bool) -> Plan:
    options = redis_options(workspace)
    connection = open_connection(options)
    try:
        rows = RedisRows(workspace.schema, options, connection)
        kept = await rows.declarations()
        stored = {
            name: Entity(name, {s.name: s for s in codec.signals}, workspace.schema.entities[name].key)
            for name, codec in kept.items()
        }
        plan = plan_of(differences(stored, workspace.schema), drops, lambda _: (None, 0), lambda _: False, False)
        if is_dry:
            return plan
        left = [step for step in plan.steps if step.fate in (Fate.KEPT, Fate.REFUSED)]
        if left:
            names = ", ".join(step.name for step in left)
            raise StoreError(
                f"values in Redis are not converted, and dropped only together: {names} would be left; name them, too "
                "(--drop), or declare them as they are stored"
            )
        if plan.changes_state:
            await rows.drop_undeclared()
        return plan
    finally:
        await connection.close()
