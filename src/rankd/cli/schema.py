"""`rankd schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file instead.")
def command(output: Path | None) -> None:
    """Print the JSON Schema of rankd.yaml, for editors.

    \b
    Examples:
      rankd schema --output rankd.schema.json

    Editors with the YAML language server then complete and check rankd.yaml if its first
    line is `# yaml-language-server: $schema=rankd.schema.json`.
    """
    from rankd.workspace import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
