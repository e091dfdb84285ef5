"""An expression's text to a bounded syntax tree.

Must live here: what keeps hostile or careless text from becoming a tree that is too
large to walk. Must not: any meaning of names and operators.
"""

from __future__ import annotations

import ast
import difflib
import io
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rankd import limits
from rankd.errors import ExpressionError

_WHITE_SPACE = str.maketrans("\r\n\t\f\v", "     ")


@dataclass(frozen=True, slots=True)
class Source:
    """An expression as written; `where` is its path, such as profiles.search.features.age."""

    text: str
    where: str

    def error(self, message: str, node: ast.AST | None = None) -> ExpressionError:
        """The error to raise, at a node's first character; without a node: the whole."""
        return ExpressionError(message, self.text, self._column(node) if node else 0, self.where)

    def error_at(self, message: str, column: int) -> ExpressionError:
        """The error to raise at a 1-based column."""
        return ExpressionError(message, self.text, max(1, min(column, len(self.text) or 1)), self.where)

    def _column(self, node: ast.AST) -> int:
        """`ast` counts UTF-8 bytes of the one line that was parsed, which had no leading blanks."""
        line = self.text.translate(_WHITE_SPACE).lstrip(" ")
        offset: int = getattr(node, "col_offset", 0)
        return len(self.text) - len(line) + len(line.encode(errors="replace")[:offset].decode(errors="ignore")) + 1


def parse(source: Source) -> ast.expr:
    """The tree of an expression: at most MAX_EXPRESSION_NODES nodes, MAX_EXPRESSION_DEPTH deep.

    Line breaks count as blanks. ExpressionError says what is wrong and where.
    """
    if len(source.text) > limits.MAX_EXPRESSION_CHARS:
        raise source.error(
            f"an expression has at most {limits.MAX_EXPRESSION_CHARS} characters, this has {len(source.text)}"
        )
    line = source.text.translate(_WHITE_SPACE)
    text = line.strip(" ")
    if not text:
        raise source.error("expected an expression, got nothing")
    if "\0" in line:
        raise source.error_at("not an expression: it has a NUL character", line.index("\0") + 1)
    _refuse_comments(source, line)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        offset = error.offset if error.offset and error.lineno == 1 else len(text)  # at the end, it is on line 0 or 2
        column = offset + len(line) - len(line.lstrip(" "))
        raise source.error_at(f"not an expression: {error.msg}", column) from None
    except ValueError as error:  # lone surrogates
        raise source.error(f"not an expression: {error}") from None
    except (RecursionError, MemoryError):
        raise source.error("the expression is nested too deeply") from None
    _check_size(source, tree)
    return tree


def _refuse_comments(source: Source, line: str) -> None:
    """A comment would swallow the lines after it, which are one line here."""
    if "#" not in line:
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.lstrip(" ")).readline):
            if token.type == tokenize.COMMENT:
                column = token.start[1] + 1 + len(line) - len(line.lstrip(" "))
                raise source.error_at("an expression has no comments", column)
    except (tokenize.TokenError, SyntaxError, ValueError):  # ValueError: lone surrogates, from Python 3.12 on
        return  # the parser says it better


def _check_size(source: Source, tree: ast.expr) -> None:
    stack: list[tuple[ast.expr, int]] = [(tree, 1)]
    count = 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > limits.MAX_EXPRESSION_NODES:
            raise source.error(f"an expression has at most {limits.MAX_EXPRESSION_NODES} parts", node)
        if depth > limits.MAX_EXPRESSION_DEPTH:
            raise source.error(f"an expression is nested at most {limits.MAX_EXPRESSION_DEPTH} deep", node)
        if isinstance(node, ast.BinOp):  # a + b + c … leans left; a long sum is not deep
            stack += [(node.left, depth + (not isinstance(node.left, ast.BinOp))), (node.right, depth + 1)]
        else:
            stack += [(child, depth + 1) for child in children(node)]


def children(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions directly within a node, those of keyword arguments included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif not isinstance(child, (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context)):
            yield from children(child)


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or what there is."""
    known = sorted(options)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    if not known:
        return "; there are none"
    shown = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
    return f"; there are: {shown}"
