"""`rankd demo`: the whole of rankd once, on a simulated shop, in under a minute.

Must live here: the order of the steps. What they print is in demo_report.py, the shop in
rankd.learn.shop. Nothing is short-circuited: signals, feature rows and rankings go through a
served process over gRPC.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.demo_report import Report
from rankd.cli.output import console
from rankd.cli.train import progress_bar

if TYPE_CHECKING:
    from rankd.client import Client
    from rankd.learn.judgments import JudgedList
    from rankd.learn.shop.behaviour import Session, Shop

PRODUCTS, USERS, QUERIES, LOGGED_QUERIES = 3_000, 400, 240, 160
PAST_SESSIONS, TRAINING_SESSIONS = 9_000, 3_600
USERS_PER_TEST_QUERY = 3
SHUFFLED_SHARE = 0.1
K = 10
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Setting:
    """The made-up world: the shop, its past, and what is learnt from and measured on."""

    shop: Shop
    past: Sequence[Session]
    training: Sequence[JudgedList]
    test: Sequence[JudgedList]
    examples: Sequence[JudgedList]


@click.command()
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Where to write the workspace (new or empty); it is kept. Default: a temporary one.")  # fmt: skip
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="Another seed, another shop.")
@click.option("--keep", is_flag=True, help="Keep the temporary directory.")
def command(directory: Path | None, seed: int, keep: bool) -> None:
    """A simulated shop, from nothing to a ranked list.

    Makes up products, users, queries and clicks; starts `rankd serve`; loads signals over
    gRPC; trains LambdaMART on clicks; ranks with it; and measures on queries nobody has typed before.
    The same seed prints the same, but for times.

    \b
    Examples:
      rankd demo
      rankd demo --dir shop        keep the workspace, to go on with it
    """
    from rankd.learn.training import import_lightgbm

    import_lightgbm()  # before the work, not after it
    if directory is not None and directory.exists() and any(directory.iterdir()):
        raise click.BadParameter(f"{directory} is not empty.", param_hint="--dir")
    keep = keep or directory is not None
    workspace = Path(tempfile.mkdtemp(prefix="rankd-demo-")) if directory is None else directory
    workspace.mkdir(parents=True, exist_ok=True)
    try:
        run(workspace, seed, Report(console()), kept=keep)
    finally:
        if not keep:
            shutil.rmtree(workspace, ignore_errors=True)


def run(workspace: Path, seed: int, report: Report, kept: bool) -> None:
    """All steps, in order."""
    from rankd.learn.process import ServerProcess
    from rankd.learn.shop.workspace import workspace_yaml

    started = time.perf_counter()
    report.title(seed)
    with report.step("a shop is made up"):
        setting = make_setting(seed)
    report.shop(setting.shop, setting.past, LOGGED_QUERIES)

    (workspace / "rankd.yaml").write_text(workspace_yaml(with_model=False), encoding="utf-8")
    write_files(workspace, setting)
    with (
        report.step("rankd serve, without a model", timed=False),
        ServerProcess(workspace) as server,
        connect(server.address) as client,
    ):
        with report.step("signals are loaded over gRPC"):
            counts = load(client, setting)
        report.loaded(counts)
        with report.step("features of later sessions are computed by the service"):
            rows = collect(client, setting.training)
    with report.step("LambdaMART is trained on clicks"):
        trained = train(workspace, rows)
    report.trained(trained, rows)

    (workspace / "rankd.yaml").write_text(workspace_yaml(with_model=True), encoding="utf-8")
    serve_with_model(workspace, setting, report)
    report.next_steps(workspace if kept else None, time.perf_counter() - started)


def make_setting(seed: int) -> Setting:
    """The shop and everything that happened in it. Test queries do not occur in any log."""
    from rankd.learn.shop.behaviour import Shop
    from rankd.learn.shop.catalogue import make_catalogue
    from rankd.learn.shop.people import make_queries, make_users
    from rankd.learn.shop.workspace import clicked_lists, true_lists

    shop = Shop(make_catalogue(PRODUCTS, seed), make_users(USERS, seed), make_queries(QUERIES, seed))
    past = shop.sessions(PAST_SESSIONS, range(LOGGED_QUERIES), SHUFFLED_SHARE, seed)
    # Where every list is shuffled, position and relevance can be told apart; where none is, they cannot.
    later = shop.sessions(TRAINING_SESSIONS, range(LOGGED_QUERIES), 1.0, seed + 1)
    test = true_lists(shop, range(LOGGED_QUERIES, QUERIES), USERS_PER_TEST_QUERY, seed)
    # The first two test lists of different queries: no choosing by outcome.
    return Setting(shop, past, clicked_lists(shop, later), test, (test[0], test[USERS_PER_TEST_QUERY]))


def write_files(workspace: Path, setting: Setting) -> None:
    """What one would go on with by hand: rows for `rankd load`, judgments for `rankd train` and `rankd evaluate`."""
    import json

    from rankd.learn.judgments import write_judgments
    from rankd.learn.shop.logs import item_rows, user_rows

    for name, rows in (
        ("items", item_rows(setting.shop, setting.past)),
        ("users", user_rows(setting.shop, setting.past)),
    ):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (workspace / f"{name}.jsonl").write_text(text, encoding="utf-8")
    write_judgments(workspace / "clicks.jsonl", setting.training)
    write_judgments(workspace / "truth.jsonl", setting.test)


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """A patient client of the demo's own server."""
    from rankd.client import Client

    with Client(address, timeout_s=TIMEOUT_S) as client:
        yield client


def load(client: Client, setting: Setting) -> dict[str, int]:
    """Signals of items and users; how many rows of each were written. A rejected row fails the demo."""
    from rankd.errors import StoreError
    from rankd.learn.shop.logs import item_rows, user_rows

    counts = {}
    for entity, rows in (
        ("item", item_rows(setting.shop, setting.past)),
        ("user", user_rows(setting.shop, setting.past)),
    ):
        names = list(dict.fromkeys(name for row in rows for name in row if name != "id"))
        columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
        result = client.write_signals(entity, [row["id"] for row in rows], columns)
        if result.rejected:
            raise StoreError(f"{len(result.rejected)} rows were rejected, the first: {result.rejected[0]}")
        counts[entity] = result.written_count
    return counts


def collect(client: Client, lists: Sequence[JudgedList]) -> Any:
    """Training rows through the service."""
    from rankd.learn.collect import collect_rows
    from rankd.learn.shop.workspace import PROFILE

    with progress_bar("sessions", len(lists)) as progress:
        return collect_rows(client, PROFILE, lists, progress).rows


def train(workspace: Path, rows: Any) -> Any:
    """The model, trained with the position each product was shown at, and written."""
    from rankd.learn.shop.workspace import MODEL_FILE
    from rankd.learn.training import Settings, train, write_model

    settings = Settings(trees=100, leaves=8, learning_rate=0.08, least_leaf_rows=50, threads=1)
    with progress_bar("trees", settings.trees) as progress:
        trained = train(rows, settings, K, progress)
    write_model(workspace / MODEL_FILE, trained.text)
    return trained


def serve_with_model(workspace: Path, setting: Setting, report: Report) -> None:
    """Starts the service again: signals come back from disk, the model decides; ranks, measures, traces."""
    from rankd.learn.collect import rank_list
    from rankd.learn.evaluation import Options, evaluate
    from rankd.learn.metrics import NoRelevant, average, average_by_query, ndcg
    from rankd.learn.process import ServerProcess
    from rankd.learn.shop.workspace import PROFILE
    from rankd.telemetry.receiver import TraceReceiver

    with TraceReceiver() as receiver:
        # The server traces what its caller traces: only the call that says so.
        environment = {"RANKD_TRACING__OTLP_ENDPOINT": receiver.endpoint, "RANKD_TRACING__SAMPLE_RATIO": "0"}
        with (
            report.step("rankd serve again, with the model: signals come back from disk", timed=False),
            ServerProcess(workspace, environment) as server,
            connect(server.address) as client,
        ):
            for judged in setting.examples:
                report.lists(setting.shop, judged, rank_list(client, PROFILE, judged, "scores"))
            with (
                report.step("held-out queries are ranked and measured"),
                progress_bar("lists", len(setting.test)) as bar,
            ):
                result = evaluate(client, PROFILE, setting.test, Options(k=K, least_grade=2.0), bar)
            sent = average_by_query([ndcg(one.grades, K) for one in setting.test], [one.query for one in setting.test])
            report.quality(result, average(sent, NoRelevant.EXCLUDE))
            report.trace(receiver, lambda metadata: traced_call(client, setting.examples[0], metadata))


def traced_call(client: Client, judged: JudgedList, metadata: Sequence[tuple[str, str | bytes]]) -> None:
    """One Rank that carries a W3C trace context."""
    from rankd.learn.shop.workspace import PROFILE

    assert judged.base_scores is not None
    assert judged.as_of_s is not None
    client.rank(
        PROFILE, judged.ids, base_scores=judged.base_scores, query=judged.query, user=judged.user,
        as_of=round(judged.as_of_s * 1000), page_size=K, metadata=metadata,
    )  # fmt: skip
