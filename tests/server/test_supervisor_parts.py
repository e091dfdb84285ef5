"""The supervisor's parts alone: breaker, CPUs, ports, runtime directory, messages, status socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rankd.errors import ConfigError, StoreError, UnavailableError
from rankd.server.supervisor import runtime
from rankd.server.supervisor.breaker import EARLY_S, Breaker
from rankd.server.supervisor.control import ChildFailedError, Start, decode, encode, failure_error, failure_message
from rankd.server.supervisor.cpus import granted_cpus
from rankd.server.supervisor.ports import Reservation
from rankd.server.supervisor.runtime import RuntimeDirectory, note_of, read_note
from rankd.server.supervisor.service import worker_count
from rankd.server.supervisor.status_socket import MAX_QUESTION_BYTES, StatusSocket, ask_status
from rankd.workspace import Address, Override, ServerSettings


def test_the_breaker_waits_longer_and_longer_and_forgets() -> None:
    breaker = Breaker()
    assert [breaker.died(1.0) for _ in range(4)] == [0.0] * 4
    assert not breaker.is_open
    assert [breaker.died(1.0) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert breaker.is_open
    assert [breaker.died(0.0) for _ in range(2_000)] == [30.0] * 2_000
    breaker.lived(EARLY_S - 0.1)
    assert breaker.is_open
    breaker.lived(EARLY_S)
    assert not breaker.is_open
    assert breaker.died(1.0) == 0.0
    assert breaker.died(EARLY_S) == 0.0


def cgroup(root: Path, lines: str, **files: str) -> Path:
    """A root with /proc/self/cgroup and files below /sys/fs/cgroup; __ in a name is a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_D_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("lines", "files", "granted"),
    [
        ("0::/a/b\n", {"a__b__cpu_D_max": "max 100000\n", "a__cpu_D_max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu_D_max": "max 100000\n"}, CPUS),
        ("0::/not/here\n", {"cpu_D_max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu_D_max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu_D_max": "6400000 100000\n"}, CPUS),
        ("0::/\n", {"cpu_D_max": "nonsense\n"}, CPUS),
        ("0::/\n", {"cpu_D_max": "100000 0\n"}, CPUS),
        (
            "4:cpu,cpuacct:/x\n",
            {"cpu,cpuacct__x__cpu_D_cfs_quota_us": "100000\n", "cpu,cpuacct__x__cpu_D_cfs_period_us": "100000\n"},
            1,
        ),
        ("4:cpu:/x\n", {"cpu__x__cpu_D_cfs_quota_us": "-1\n", "cpu__x__cpu_D_cfs_period_us": "100000\n"}, CPUS),
        ("", {}, CPUS),
    ],
)
def test_cpus_are_what_the_cgroup_grants(tmp_path: Path, lines: str, files: dict[str, str], granted: int) -> None:
    assert granted_cpus(cgroup(tmp_path, lines, **files)) == granted


def listening(port: int, shared: bool) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def test_a_reserved_port_is_for_children_alone() -> None:
    with Reservation(Address("127.0.0.1", 0), "server.listen") as held:
        port = held.address.port
        assert port
        with pytest.raises(OSError, match="in use"):
            listening(port, shared=False)
        with pytest.raises(ConfigError, match=rf"server\.listen: address 127\.0\.0\.1:{port} is in use"):
            Reservation(held.address, "server.listen")
        with listening(port, shared=True), listening(port, shared=True):
            with pytest.raises(ConfigError, match="in use"):
                Reservation(held.address, "server.listen")
            socket.create_connection(("127.0.0.1", port)).close()
        # Between two children it is still ours, and nobody listens.
        with pytest.raises(ConfigError, match="in use"):
            Reservation(held.address, "server.listen")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_port_with_connections_of_a_former_server_can_be_had() -> None:
    with listening(0, shared=False) as former:
        port = former.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        former.accept()[0].close()  # the server closes first: its end stays in TIME_WAIT
        client.close()
    with Reservation(Address("127.0.0.1", port), "server.listen") as held:
        assert held.address.port == port


def test_addresses_that_cannot_be_had_say_why() -> None:
    with pytest.raises(ConfigError, match=r"server\.listen: address 192\.0\.2\.1:0 [Cc]annot assign"):
        Reservation(Address("192.0.2.1", 0), "server.listen")
    with pytest.raises(ConfigError, match=r"address no\.such\.host\.invalid:0 "):
        Reservation(Address("no.such.host.invalid", 0), "server.listen")
    with Reservation(Address("", 0, "/tmp/x.sock"), "server.listen") as held:
        assert held.address.target == "unix:/tmp/x.sock"


def test_how_many_workers() -> None:
    assert worker_count(ServerSettings(workers=3)) == 3
    assert worker_count(ServerSettings()) == granted_cpus()
    assert worker_count(ServerSettings(listen="unix:/tmp/s")) == 1
    with pytest.raises(ConfigError, match=r"server\.workers: expected 1, .* got 2"):
        worker_count(ServerSettings(listen="unix:/tmp/s", workers=2))


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of one's own, with a short path."""
    monkeypatch.setattr(runtime, "_MAX_TEMP_BYTES", 1_000)
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_runtime_directory_is_private_and_goes_away(temp: Path) -> None:
    file = note_of(Path("/shop/rankd.yaml"))
    assert read_note(file) is None
    first = RuntimeDirectory()
    assert first.path.stat().st_mode & 0o777 == 0o700
    assert first.path.parent.stat().st_mode & 0o777 == 0o700
    first.leave_note(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_note(file) == first.status_socket
    with RuntimeDirectory() as second:
        assert first.path.exists()
        second.leave_note(file)
        first.close()
        assert read_note(file) == second.status_socket
    assert read_note(file) is None
    assert [path.name for path in file.parent.iterdir()] == []


def test_what_a_killed_service_left_is_swept(temp: Path) -> None:
    code = (
        "import os, sys, tempfile; from rankd.server.supervisor import runtime\n"
        "runtime._MAX_TEMP_BYTES = 1000; tempfile.tempdir = sys.argv[1]\n"
        "it = runtime.RuntimeDirectory(); it.leave_note(runtime.Path(sys.argv[2]))\n"
        "print(it.path, flush=True); os._exit(9)"
    )
    note = temp / "note"
    done = subprocess.run(
        [sys.executable, "-c", code, str(temp), str(note)], capture_output=True, text=True, timeout=60
    )
    left = Path(done.stdout.strip())
    assert left.exists(), done.stderr
    # A child of it is still at work: what it uses stays, and a new service waits for it.
    child, waited = runtime.join_service(left), []
    with RuntimeDirectory() as mine:
        assert left.exists()
        runtime.wait_for_orphans(note, 0.1, lambda: waited.append(1))
        assert waited == [1]
        timer = threading.Timer(0.3, os.close, [child])
        timer.start()
        runtime.wait_for_orphans(note, 60.0, lambda: waited.append(2))
        assert waited == [1, 2]
        timer.join()
        # Of a service that lives nothing is awaited.
        mine.leave_note(note)
        held = runtime.join_service(mine.path)
        runtime.wait_for_orphans(note, 60.0, lambda: waited.append(3))
        os.close(held)
        assert waited == [1, 2]
    with RuntimeDirectory() as mine:
        assert not left.exists()
        assert mine.path.exists()


def test_a_folder_that_others_may_enter_is_refused(temp: Path) -> None:
    root = temp / f"rankd-{os.geteuid()}"
    root.mkdir()
    root.chmod(0o755)
    with pytest.raises(ConfigError, match=r"only user \d+ may enter"):
        RuntimeDirectory()
    root.rmdir()
    (temp / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(temp / "elsewhere")
    with pytest.raises(ConfigError, match="only user"):
        RuntimeDirectory()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"socket": 3}', b'{"socket": "a\\u0000b"}', b"\xff"])
def test_notes_that_are_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "note"
    file.write_bytes(content)
    assert read_note(file) is None


def test_start_travels_whole() -> None:
    start = Start("/w/rankd.yaml", [Override("--listen", ("server", "listen"), "127.0.0.1:0")], 2, 3, 4, "/run/k", 5)
    message = decode(encode(start.to_message()))
    assert message is not None
    assert Start.from_message(message) == start


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("expected x, got y", "profiles.search.base"),
        ConfigError("no place"),
        StoreError("data directory is in use"),
        UnavailableError("gone"),
        PermissionError(13, "Permission denied", "/models/x.txt"),
    ],
)
def test_an_expected_error_of_a_child_is_the_supervisors(error: Exception) -> None:
    message = decode(encode(failure_message(error)))
    assert message is not None
    again = failure_error(message)
    assert (type(again), str(again)) == (type(error), str(error))
    assert getattr(again, "where", None) == getattr(error, "where", None)


def test_an_unexpected_error_is_a_fault() -> None:
    again = failure_error(failure_message(KeyError("boom")))
    assert isinstance(again, ChildFailedError)
    assert "KeyError: 'boom'" in str(again)


async def exchange(path: Path, sent: bytes, end: bool = True) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(sent)
    if end:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_status_socket_answers_and_stands_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "s"
    socket_ = StatusSocket(path, lambda: {"pid": 7})
    await socket_.start()
    assert path.stat().st_mode & 0o777 == 0o600
    assert await asyncio.to_thread(ask_status, path, 5.0) == {"pid": 7}
    for nonsense in (b"", b"\n", b"\xff\xfe\n", b"[]\n", b"{}\n", b"[" * 4000 + b"\n", b"x" * (MAX_QUESTION_BYTES * 4)):
        answer = await exchange(path, nonsense)
        assert not answer or "error" in json.loads(answer)
    # Many who connect and say nothing: they do not keep the next out for longer than they are heard.
    silent = [await asyncio.open_unix_connection(str(path)) for _ in range(40)]
    ended = [await asyncio.wait_for(reader.read(), 10) for reader, _ in silent]
    assert set(ended) == {b""}
    assert await asyncio.to_thread(ask_status, path, 5.0) == {"pid": 7}
    for _, writer in silent:
        writer.close()
    await socket_.close()
    with pytest.raises(UnavailableError, match="no answer"):
        await asyncio.to_thread(ask_status, path, 1.0)


@pytest.mark.parametrize("answer", [b"", b"nonsense\n", b"[]\n", b'{"pid"'])
def test_nonsense_instead_of_a_status_is_said(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "s"
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True)\n"
        "c, _ = s.accept(); c.recv(100); c.sendall(bytes.fromhex(sys.argv[2]))"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(path), answer.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as answering:
        assert answering.stdout is not None
        answering.stdout.readline()
        with pytest.raises(UnavailableError):
            ask_status(path, 5.0)


def test_the_supervisor_imports_nothing_large(tmp_path: Path) -> None:
    (tmp_path / "rankd.yaml").write_text("version: 1\n")
    code = (
        "import os, sys; from pathlib import Path\n"
        "import rankd.cli.main, rankd.cli.serve, rankd.cli.status, rankd.server.supervisor.service\n"
        "from rankd.workspace import load_workspace; load_workspace(Path(sys.argv[1]), os.environ)\n"
        "large = ('grpc', 'google', 'numpy', 'opentelemetry', 'uvloop', 'rankd.v1', 'rankd.kernels', 'rankd.signals')\n"
        "print([m for m in sys.modules if m.startswith(large)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
