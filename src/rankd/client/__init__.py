"""The Python client of rankd.

    from rankd.client import Client

    with Client("127.0.0.1:50051") as client:
        for item in client.rank("search", ["a", "b", "c"], query="laptop", view="scores"):
            print(item.rank, item.id, item.score)

`AsyncClient` has the same methods, awaited. Every call has a deadline, is retried where that is
safe, and is spread over all addresses of the target that say they are healthy. See docs/client.md.
"""

from rankd.client.client import AsyncClient, Client
from rankd.client.columns import KEEP
from rankd.client.errors import (
    CallCancelledError,
    DeadlineError,
    ExhaustedError,
    FieldViolation,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RankdRpcError,
    ServerFaultError,
    ServerUnavailableError,
)
from rankd.client.events import CollectResult
from rankd.client.requests import RankList
from rankd.client.signals import (
    Acknowledged,
    RejectedRow,
    ReplicaStatus,
    ScannedPage,
    SchemaDescription,
    SignalStatistics,
    StoredSignals,
    WriteResult,
)
from rankd.client.values import Text
from rankd.client.views import Degradation, RankedItem, RankedList, ScoredList
from rankd.client.writes import StreamBatch
from rankd.errors import RequestError
from rankd.types.event import Event
from rankd.types.text import composite_id
from rankd.v1.ranking_pb2 import Query, User

__all__ = [
    "KEEP",
    "Acknowledged",
    "AsyncClient",
    "CallCancelledError",
    "Client",
    "CollectResult",
    "DeadlineError",
    "Degradation",
    "Event",
    "ExhaustedError",
    "FieldViolation",
    "InvalidRequestError",
    "NotFoundError",
    "OverloadedError",
    "PreconditionError",
    "Query",
    "RankList",
    "RankdRpcError",
    "RankedItem",
    "RankedList",
    "RejectedRow",
    "ReplicaStatus",
    "RequestError",
    "ScannedPage",
    "SchemaDescription",
    "ScoredList",
    "ServerFaultError",
    "ServerUnavailableError",
    "SignalStatistics",
    "StoredSignals",
    "StreamBatch",
    "Text",
    "User",
    "WriteResult",
    "composite_id",
]
