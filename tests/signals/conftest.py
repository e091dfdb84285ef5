"""Real Redis servers, and a process for keepers, for the tests of this folder: started when the first test asks; each
test finds Redis empty."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from signals.keeper_host import KeeperHost
from support.redis_servers import RedisCluster, RedisServer

from rankd.signals.redis.options import RedisOptions


@dataclass(frozen=True)
class Place:
    """Where Redis is, one process or a Cluster; `options(...)`: RedisOptions that go there; `wipe()`: it forgets."""

    url: str
    is_cluster: bool
    wipe: Callable[[], None]

    def options(self, **settings: object) -> RedisOptions:
        make = partial(RedisOptions, self.url, cluster=self.is_cluster)
        # Tests run beside others: patience here is not what is tested.
        return make(**({"socket_timeout_s": 2.0, "connect_timeout_s": 2.0, "write_timeout_s": 10.0} | settings))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def one_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def one_cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def single(one_server: RedisServer) -> Place:
    one_server.flush()
    return Place(one_server.url, False, one_server.flush)


@pytest.fixture
def cluster(one_cluster: RedisCluster) -> Place:
    one_cluster.flush()
    return Place(one_cluster.url, True, one_cluster.flush)


@pytest.fixture(params=["single", "cluster"])
def place(request: pytest.FixtureRequest) -> Place:
    """One, then the other."""
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture(scope="session")
def keeper_host() -> Iterator[KeeperHost]:
    directory = Path(tempfile.mkdtemp(prefix="rankd-keeper-"))
    host = KeeperHost(directory)
    yield host
    host.close()
    shutil.rmtree(directory)
