import pytest
from support.fake_rankd import FakeRankd, running

from rankd.client import Client


@pytest.fixture
def fake():
    with running(FakeRankd()) as served:
        yield served


@pytest.fixture
def client(fake):
    with Client(f"127.0.0.1:{fake.port}", timeout_s=10) as made:
        yield made
