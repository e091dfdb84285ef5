"""`rankd model`: the group, and `rankd model compile`."""

from __future__ import annotations

from pathlib import Path

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.model_inspect import inspect
from rankd.cli.output import CommandError, json_option, print_json


@click.group()
def command() -> None:
    """Look at model files, and compile them.

    \b
    Examples:
      rankd model inspect models/shop.txt
      rankd model compile models/shop.txt -o models/shop.rkmodel
    """


@command.command(name="compile")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The compiled file."
)
@click.option("--format", "format", help="Of FILE, where its content does not tell.")
@json_option
def compile_model(file: Path, output: Path, format: str | None, as_json: bool) -> None:
    """Compile a model of trees into a file that is mapped when it is served.

    Workers then share its memory and start at once. The scores are the same to the bit, and so is the model's version.
    Such a file is for this version of rankd and machines of this byte order.

    \b
    Examples:
      rankd model compile models/shop.txt -o models/shop.rkmodel
    """
    from rankd.models import ForestScorer
    from rankd.models.compiled import write_compiled
    from rankd.models.load import FORMATS, detect_format, read_model

    format = format or detect_format(file)
    if format not in FORMATS:
        raise CommandError(f"expected --format {', '.join(FORMATS)}, got {format}", ExitCode.USAGE)
    if format == "compiled":
        raise CommandError(f"{file} is compiled already", ExitCode.USAGE)
    scorer, origin = read_model(file, format)
    if not isinstance(scorer, ForestScorer):
        raise CommandError(f"{file} is a linear model: there is nothing to compile, serve it as it is", ExitCode.USAGE)
    size = write_compiled(output, scorer, origin)
    version = origin.sha256[:12]
    if as_json:
        print_json({"file": str(output), "bytes": size, "family": origin.family, "version": version})
        return
    click.echo(f"Wrote {output}: {size:,} bytes, {scorer.forest.trees:,} trees, version {version}. In rankd.yaml:\n")
    click.echo(f"  models:\n    {output.stem}: {{file: {output}, format: compiled}}")


command.add_command(inspect)
