"""How many CPUs this process may use: the default number of workers."""

from __future__ import annotations

import os
from pathlib import Path


def granted_cpus(root: Path = Path("/")) -> int:
    """The least of CPU affinity and the quotas of the cgroups around this process, rounded down; at least 1.

    Quotas: `cpu.max` of cgroup v2 and `cpu.cfs_quota_us` of v1
    (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu). `root` is for tests.
    """
    granted = float(len(os.sched_getaffinity(0)))
    for folder in _cgroups(root):
        granted = min(granted, _quota(folder))
    return max(1, int(granted))


def _cgroups(root: Path) -> list[Path]:
    """The folders of this process's cpu controller, its own first, and of all around it."""
    mount = root / "sys/fs/cgroup"
    places: list[tuple[Path, str]] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            places += [(mount, path), (mount / "unified", path)]
        elif "cpu" in controllers.split(","):
            places += [(mount / controllers, path), (mount / "cpu", path)]
    folders: dict[Path, None] = {}
    for base, path in places:
        # In a container the path may be the host's, which is not there: its root is then this group.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts), -1, -1):
            folders[base.joinpath(*parts[:length])] = None
    return list(folders)


def _quota(folder: Path) -> float:
    """CPUs that a group may use; infinity: as many as there are."""
    try:
        if words := _text(folder / "cpu.max").split():
            return float(words[0]) / float(words[1]) if words[0] != "max" else float("inf")
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            return int(quota) / int(period)
    except (ValueError, IndexError, ZeroDivisionError):
        pass
    return float("inf")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
