"""A profile's features and base expression to programs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import partial

from rankd import limits
from rankd.errors import ExpressionError
from rankd.features.builder import Builder
from rankd.features.entities import REQUEST_ENTITIES, UnknownNameError
from rankd.features.expression import Compiler
from rankd.features.names import feature_input, resolve
from rankd.features.parse import Source, children, did_you_mean, parse
from rankd.features.program import CompiledProgram
from rankd.features.values import Typer
from rankd.types.profile import Profile
from rankd.types.schema import Schema


def compile_features(profile: Profile, schema: Schema, intern: Callable[[str], int]) -> CompiledProgram:
    """The program of all features of a profile, in its order.

    `intern` gives the dictionary code of a category. A feature that another one names
    is computed once; the other reads it rounded to float32, as it is shown.
    ExpressionError: what is wrong, in which feature and column.
    """
    sources = _sources(profile)
    trees = {name: parse(source) for name, source in sources.items()}
    builder = Builder()
    registers: dict[str, int] = {}

    def feature(name: str) -> int:
        if name not in sources:
            raise _unknown_feature(profile, name)
        return builder.op("round32", registers[name])

    for name in _in_order(sources, trees):
        compiler = Compiler(Typer(sources[name], builder, intern), partial(resolve, profile, schema), feature)
        registers[name] = compiler.result(trees[name], "a feature")
    return builder.finish(list(sources), [registers[name] for name in sources])


def compile_base(profile: Profile, schema: Schema, intern: Callable[[str], int]) -> CompiledProgram | None:
    """The program of a profile's base expression, with one output, "base"; None if it has none.

    Bare names read the profile's features as inputs (Source.FEATURE). Otherwise as compile_features.
    """
    if profile.base is None:
        return None
    source = Source(profile.base, f"profiles.{profile.name}.base")
    names = {f.name for f in profile.features}
    builder = Builder()

    def feature(name: str) -> int:
        if name not in names:
            raise _unknown_feature(profile, name)
        return builder.load(feature_input(name))

    compiler = Compiler(Typer(source, builder, intern), partial(resolve, profile, schema), feature)
    return builder.finish(["base"], [compiler.result(parse(source), "the base score")])


def _sources(profile: Profile) -> dict[str, Source]:
    where = f"profiles.{profile.name}.features"
    if len(profile.features) > limits.MAX_FEATURES:
        raise ExpressionError(
            f"a profile has at most {limits.MAX_FEATURES} features, this has {len(profile.features)}", where=where
        )
    sources: dict[str, Source] = {}
    for feature in profile.features:
        if feature.name in sources:
            raise ExpressionError("this feature is declared twice", where=f"{where}.{feature.name}")
        sources[feature.name] = Source(feature.expression, f"{where}.{feature.name}")
    return sources


def _unknown_feature(profile: Profile, name: str) -> UnknownNameError:
    namespaces = (profile.entity, *REQUEST_ENTITIES, "column", "context", "request", "candidate")
    if name in namespaces:
        return UnknownNameError(f"`{name}` is followed by a dot and a name, such as {name}.…")
    return UnknownNameError(
        f"the profile has no feature `{name}`" + did_you_mean(name, [f.name for f in profile.features])
    )


def _references(tree: ast.expr, known: Mapping[str, Source]) -> dict[str, ast.Name]:
    """The features an expression names, each with the first place where it does."""
    found: dict[str, ast.Name] = {}
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name):
            if node.id in known:
                found.setdefault(node.id, node)
        elif isinstance(node, ast.Call):
            stack += [c for c in children(node) if c is not node.func]
        elif not isinstance(node, ast.Attribute):
            stack += children(node)
    return found


def _in_order(sources: Mapping[str, Source], trees: Mapping[str, ast.expr]) -> list[str]:
    """The features, each after those it names. A loop, not recursion: chains may be as long as a profile."""
    references = {name: _references(tree, sources) for name, tree in trees.items()}
    order: dict[str, None] = {}
    path: dict[str, None] = {}  # what is being placed, each named by the one before
    for start in sources:
        stack = [start]
        while stack:
            name = stack[-1]
            if name in path or name in order:
                stack.pop()
                if path.pop(name, 0) is None:
                    order[name] = None
                continue
            path[name] = None
            for other, node in references[name].items():
                if other in path:
                    names = list(path)
                    circle = " -> ".join([*names[names.index(other) :], other])
                    raise sources[name].error(f"features name each other in a circle: {circle}", node)
                stack.append(other)
    return list(order)
