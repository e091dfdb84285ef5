"""The features that a workspace declares for a model, held against the names in its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rankd.errors import ModelFileError


def declared_names(
    names: tuple[str, ...],
    numbered: tuple[str, ...],
    given: Sequence[str] | None,
    count_fault: Callable[[str], ModelFileError],
    name_fault: Callable[[int, str], ModelFileError],
) -> tuple[str, ...]:
    """What the model's inputs are called: as declared or, if nothing is, as in the file.

    `numbered`: what the library calls features that have no names; a file with those takes any names. Raises the
    error that `count_fault(problem)` or, for one name, `name_fault(position, problem)` makes of what is wrong.
    """
    if given is None:
        return names
    given = tuple(given)
    count = len(names)
    if len(given) != count or len(set(given)) != count:
        raise count_fault(f"expected {count} distinct features to be declared, got {len(given)}")
    if given != names and names != numbered:
        i = next(i for i in range(count) if given[i] != names[i])
        raise name_fault(i, f"the declared feature {i} is {given[i]!r}, but the file names it {names[i]!r}")
    return given
