"""FileWatch: it sees every way in which a file becomes another, and waits until it is at rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rankd.workspace.watch import FileWatch, file_state


def watch(*paths: Path) -> FileWatch:
    return FileWatch({path: file_state(path) for path in paths})


def test_what_has_not_changed_is_never_told(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("a")
    it = watch(file, tmp_path / "absent")
    assert [it.look() for _ in range(4)] == [False] * 4


@pytest.mark.parametrize("how", ["in place", "rename", "touch", "remove", "link", "same size"])
def test_every_change_is_told_once_it_rests(how: str, tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    other.write_text("other")
    if how == "link":
        # As a ConfigMap is mounted: a -> ..data/a, ..data -> ..1
        for name in ("..1", "..2"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a").write_text("a")
        (tmp_path / "..data").symlink_to("..1")
        file.symlink_to("..data/a")
    else:
        file.write_text("a")
        os.utime(file, ns=(1, 1))
    it = watch(file)
    match how:
        case "in place":
            file.write_text("ab")
        case "same size":
            file.write_text("b")
        case "rename":
            other.rename(file)
        case "touch":
            file.touch()
        case "remove":
            file.unlink()
        case "link":
            (tmp_path / "..data_tmp").symlink_to("..2")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert [it.look(), it.look(), it.look()] == [False, True, True]
    it.have_read({file: file_state(file)})
    assert [it.look(), it.look()] == [False, False]


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("a")
    it = watch(file)
    for i in range(5):
        with file.open("a") as stream:
            stream.write("more" * i + "x")
        assert not it.look()
    assert it.look()


def test_a_file_that_comes_later_is_told(tmp_path: Path) -> None:
    it = watch(tmp_path / "late")
    assert not it.look()
    (tmp_path / "late").write_text("here")
    assert [it.look(), it.look()] == [False, True]
    assert list(it.files) == [tmp_path / "late"]


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert file_state(tmp_path / "none") is None
    assert file_state(tmp_path / "a\0b") is None
