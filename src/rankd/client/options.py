"""The channel: service config and options, for the clients here and for stubs of your own. Every default says why.

Options given by the caller come last and win.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

ChannelOptions: TypeAlias = Sequence[tuple[str, str | int]]

RETRYABLE_METHODS = {
    "rankd.v1.RankingService": ("Rank", "BatchRank", "Score"),
    "rankd.v1.SignalService": ("WriteSignals", "GetSignals", "DeleteSignals", "DescribeSchema", "ForgetUser"),
}
"""All of them: they read, or they write the same thing again."""

MAX_ATTEMPTS = 4
INITIAL_BACKOFF_S = 0.02
MAX_BACKOFF_S = 0.5

CONNECTIONS = 4
"""Per address. With four, one of two workers is reached by none of them in one case of eight, and a worker that
drains holds all of them as rarely; each costs a socket and a health watch."""

INITIAL_RECONNECT_BACKOFF_MS = 100
MAX_RECONNECT_BACKOFF_MS = 1_000
"""gRPC's own are 1 s and 2 min: a server that is back would be left unused for long, and if the others drained
meanwhile, nobody would be left."""

KEEPALIVE_TIME_MS = 300_000
"""As often as a gRPC server allows without being told otherwise; more often, and it hangs up."""
KEEPALIVE_TIMEOUT_MS = 10_000
"""Also becomes the socket's TCP_USER_TIMEOUT: a peer that silently vanished is noticed after this
long instead of after the kernel's quarter of an hour."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""gRPC's default of 4 MiB is less than 10,000 candidates with 300 features."""
RETRY_BUFFER_BYTES = 16 * 1024 * 1024
"""gRPC keeps at most 256 KiB of a call for retries by default; a larger request would silently not be retried."""


def service_config(*, health_checking: bool = True, retry: bool = True) -> str:
    """The service config as JSON.

    round_robin over all addresses; health checking takes an address that says NOT_SERVING (it
    drains) out of the rotation before it goes away; retries UNAVAILABLE and a CANCELLED that the
    *server* sent, which is how calls end that a stopping server cut off. (The caller's own
    cancellation is never retried.) RESOURCE_EXHAUSTED is not retried: that would feed an
    overload; nor does gRPC then take notice of `grpc-retry-pushback-ms`. Backoff doubles from
    20 ms, with gRPC's jitter of 20 %; retries stop when more than about one call in ten needs them.
    """
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if health_checking:
        config["healthCheckConfig"] = {"serviceName": ""}
    if retry:
        config["methodConfig"] = [
            {
                "name": [
                    {"service": service, "method": method}
                    for service, methods in RETRYABLE_METHODS.items()
                    for method in methods
                ],
                "retryPolicy": {
                    "maxAttempts": MAX_ATTEMPTS,
                    "initialBackoff": f"{INITIAL_BACKOFF_S}s",
                    "maxBackoff": f"{MAX_BACKOFF_S}s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    return json.dumps(config)


def channel_options(
    *, health_checking: bool = True, retry: bool = True, more: ChannelOptions = ()
) -> list[tuple[str, str | int]]:
    """Options of one channel, with connections of its own: not shared with other channels to the same address.

    `retry`: gRPC's own retries. The clients of this package make theirs (retries.py) and turn these off.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", service_config(health_checking=health_checking, retry=retry)),
        # A name server must not be able to replace the config above.
        ("grpc.service_config_disable_resolution", 1),
        # rankd is inside; a proxy that the environment names for the outside is not meant for it.
        ("grpc.enable_http_proxy", 0),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
        ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", INITIAL_RECONNECT_BACKOFF_MS),
        ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
    ]
    overridden = {name for name, _ in more}
    return [option for option in options if option[0] not in overridden] + list(more)
