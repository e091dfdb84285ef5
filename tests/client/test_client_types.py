"""What a type checker sees: the clients' methods are made from one set of functions, and must not look like Any."""

from __future__ import annotations

import re

import pytest

SNIPPET = """
from rankd.client import AsyncClient, Client

client = Client("x")
reveal_type(client.rank("p", ["a"]))  # RankedList
reveal_type(client.score("p", ["a"]).scores)  # float64
reveal_type(client.write_signals("item", ["a"], {"price": [1]}))  # WriteResult
for page in client.pages("p", ["a"]):
    reveal_type(page)  # RankedList
client.rank("p", ["a"], view="nope")  # incompatible type
client.rank("p", ["a"], pagesize=3)  # Unexpected keyword
client.rank("p")  # Too few arguments

async def main(other: AsyncClient) -> None:
    reveal_type(await other.health())  # bool
    async for page in other.pages("p", ["a"]):
        reveal_type(page)  # RankedList
"""


@pytest.mark.slow
def test_methods_are_typed(tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy belongs to the house group")
    path = tmp_path / "snippet.py"
    path.write_text(SNIPPET)
    out, _, _ = api.run(["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), str(path)])
    said = {int(line): text for line, text in re.findall(r"snippet\.py:(\d+): (?:note|error): (.*)", out)}
    expected = {n: text.split("# ")[1] for n, text in enumerate(SNIPPET.splitlines(), 1) if "# " in text}
    assert said.keys() == expected.keys(), out
    for line, text in expected.items():
        assert text in said[line], said[line]
