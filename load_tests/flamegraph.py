"""Where a Rank's time goes, as a picture: a worker is sampled while it answers calls.

    make flamegraph                              # build/flamegraph_100.svg and build/flamegraph_1000.svg
    make flamegraph BENCH_ARGS="--write docs"    # docs/flamegraph_100.svg and docs/flamegraph_1000.svg

py-spy stops the worker some hundred times a second and takes its threads' stacks, Python's frames and those of C in
one; threads that wait are left out. Width is the share of samples; depth is the depth of calls. The last line is JSON:
the shares of what csrc, rankd's Python, gRPC, Python itself and the system's calls take.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes, report, shop
from generator.offer import RANK
from path.callers import GrpcCaller
from path.effort import ECHO_SHAPE

SIZES = (100, 1_000)
ITEMS = 20_000
RATE_HZ = 400
WIDTH, ROW, FONT = 1_200, 17, 11
LEAST_SHARE = 0.002
"""Narrower frames are not drawn."""
COLOURS = {"csrc": "#d9534f", "grpc": "#7fb069", "python": "#f0c05a", "rankd": "#e8873a", "system": "#b8b8b8"}
LEGEND = {"csrc": "rankd's C", "rankd": "rankd's Python", "grpc": "gRPC", "python": "Python, uvloop", "system": "libc"}
_WAITING = re.compile(r"_*(epoll_p?wait|poll|select|futex\w*|pthread_cond\w*wait|nanosleep|clock_nanosleep|sem_wait)\b")


@dataclass(slots=True)
class Frame:
    """A function in the place where it was called. `count`: samples in it or in what it called."""

    name: str
    kind: str
    count: int = 0
    below: dict[str, Frame] = field(default_factory=dict)


def kind_of(frame: str, above: str) -> str:
    """Whose code a frame is; code without a file's name is counted with what called it."""
    name, _, place = frame.rpartition(" (")
    if name.startswith("rk_") or place.startswith("rk_") or "kernels" in place:
        return "csrc"
    if "rankd" in place or re.search(r"/(server|ranking|signals|telemetry)/", place):
        return "rankd"
    if "grpc" in place or "cygrpc" in place or "grpc" in name or "absl" in name:
        return "grpc"
    if re.search(r"\.py|python|uvloop|_asyncio", place):
        return "python"
    if re.search(r"libc|libpthread|ld-linux|vdso|kernel", place):
        # What the system does for the library that asked it to.
        return "system"
    return above


def waits(stack: str) -> bool:
    """Whether a thread was in a system call that waits. libc's own waits have no names: they are told by an innermost
    frame of libc without one, outside the main thread."""
    leaf = stack.rpartition(";")[2]
    return bool(_WAITING.match(leaf)) or (leaf.startswith("0x") and "libc" in leaf and "<module>" not in stack)


def readable(stack: str) -> list[str]:
    """Its frames without what is above the event loop's callbacks; functions without names are one frame a library."""
    frames: list[str] = []
    for frame in stack.split(";"):
        name, _, place = frame.rpartition(" (")
        if name.startswith("Handle__run"):
            frames = ["event loop (uvloop)"]
            continue
        told = f"{Path(place.rstrip(')')).name.split('.')[0]} ({place}" if name.startswith("0x") else frame
        if not frames or frames[-1] != told:
            frames.append(told)
    return frames


def fold(text: str) -> Frame:
    """py-spy's raw lines, `frame;frame;frame count`, as a tree."""
    root = Frame("all", "python")
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if not count.isdigit() or waits(stack):
            continue
        here, kind = root, "python"
        root.count += int(count)
        for name in readable(stack):
            kind = kind_of(name, kind)
            here = here.below.setdefault(name, Frame(name, kind))
            here.count += int(count)
    return root


def shares(root: Frame) -> dict[str, float]:
    """Of the samples, by whose code was running: the share of each kind without what it called of another."""
    found = dict.fromkeys(COLOURS, 0)

    def add(frame: Frame) -> None:
        found[frame.kind] += frame.count - sum(child.count for child in frame.below.values())
        for child in frame.below.values():
            add(child)

    add(root)
    return {kind: round(count / max(root.count, 1), 3) for kind, count in found.items()}


def place(frame: Frame, left: int, depth: int) -> Iterator[tuple[Frame, int, int]]:
    """Frames with the samples left of them and their depth, the widest first at each level."""
    yield frame, left, depth
    for child in sorted(frame.below.values(), key=lambda each: -each.count):
        yield from place(child, left, depth + 1)
        left += child.count


def draw(root: Frame, title: str) -> str:
    """The picture: callers above, what they call below."""
    placed = [one for one in place(root, 0, 0) if one[0].count >= LEAST_SHARE * root.count]
    height = (max(depth for _, _, depth in placed) + 1) * ROW + 60
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="{FONT}">',
        f'<text x="4" y="16" font-size="14">{html.escape(title)}</text>',
    ]
    for number, (kind, name) in enumerate(LEGEND.items()):
        x = 4 + number * 140
        lines.append(f'<rect x="{x}" y="24" width="12" height="12" fill="{COLOURS[kind]}"/>')
        lines.append(f'<text x="{x + 16}" y="34">{name}</text>')
    for frame, left, depth in placed:
        x, width = left / root.count * WIDTH, frame.count / root.count * WIDTH
        y = 44 + depth * ROW
        name = frame.name.rpartition(" (")[0] or frame.name
        shown = name[: int(width / (FONT * 0.58))] if width > 3 * FONT else ""
        told = html.escape(f"{frame.name}: {frame.count / root.count:.1%}")
        lines.append(
            f'<g><title>{told}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" height="{ROW - 1}" '
            f'fill="{COLOURS[frame.kind]}"/><text x="{x + 3:.1f}" y="{y + 12}">{html.escape(shown)}</text></g>'
        )
    return "\n".join([*lines, "</svg>", ""])


def sample(pid: int, caller: GrpcCaller, requests: list[bytes], seconds: float, folder: Path) -> Frame:
    """Calls, one after another, while py-spy looks. RuntimeError if it cannot."""
    raw = folder / "raw"
    command = ["py-spy", "record", "--pid", str(pid), "--native", "--format", "raw", "--output", str(raw)]
    command += ["--rate", str(RATE_HZ), "--duration", str(max(1, round(seconds))), "--nolineno"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as spy:
        while spy.poll() is None:
            for request in requests:
                caller.call(request)
        said = spy.stdout.read() if spy.stdout is not None else ""
    if spy.returncode or not raw.exists():
        raise RuntimeError(f"py-spy: {said[-500:]}")
    return fold(raw.read_text(encoding="utf-8"))


def main() -> int:
    """Samples and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each picture")
    parser.add_argument("--write", nargs=1, type=Path, default=[Path("build")], metavar="FOLDER", help="for pictures")
    parser.add_argument("--quick", action="store_true", help="a second each")
    arguments = parser.parse_args()
    server_core, caller_core = processes.cores()
    name = shop.forest_name(ECHO_SHAPE)
    found = {}
    with tempfile.TemporaryDirectory(prefix="rankd-flame-") as folder_name, processes.on_core(caller_core):
        folder = Path(folder_name)
        shop.write_workspace(folder / "flame", [ECHO_SHAPE])
        with processes.rankd(folder / "flame", server_core) as server:
            shop.write_items(server.target, shop.item_rows(ECHO_SHAPE.features, ITEMS))
            caller = GrpcCaller(server, RANK)
            for size in SIZES:
                lists = [shop.choose_items(ITEMS, size, seed) for seed in range(8)]
                requests = [shop.rank_request(name, one) for one in lists]
                seconds = 1.0 if arguments.quick else arguments.seconds
                root = sample(server.worker_pids[0], caller, requests, seconds, folder)
                title = f"Rank, {size:,} candidates, 20 stored signals, forest 500 × 31: {root.count:,} samples"
                arguments.write[0].mkdir(exist_ok=True)
                (arguments.write[0] / f"flamegraph_{size}.svg").write_text(draw(root, title), encoding="utf-8")
                found[str(size)] = shares(root)
                print(size, found[str(size)])
            caller.close()
    print(json.dumps({"bench": "flamegraph", "machine": report.machine(), "shares": found}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
