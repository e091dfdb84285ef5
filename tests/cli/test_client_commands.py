"""rank, score, load and get, against a server that fakes the insides."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import grpc
import pytest
from click.testing import CliRunner
from support.fake_rankd import FakeRankd, error_info, running, status

from rankd.cli.exit_codes import ExitCode
from rankd.cli.main import cli
from rankd.cli.ranked_table import BAR_WIDTH, bar
from rankd.cli.remote import printable
from rankd.v1 import ranking_pb2
from rankd.v1.signals_pb2 import RejectedRow


@pytest.fixture
def fake():
    with running(FakeRankd()) as served:
        yield served


@pytest.fixture
def run(fake):
    def run(*arguments: str, **options):
        options.setdefault("env", {"RANKD_ADDRESS": f"127.0.0.1:{fake.port}"})
        result = CliRunner().invoke(cli, arguments, prog_name="rankd", **options)
        assert result.exit_code != ExitCode.INTERNAL, result.stderr
        return result

    return run


RANK = ("rank", "--profile", "search", "--ids", "a,unknown-b, c")


def test_rank_prints_the_best_first_and_marks_what_is_missing(run, fake):
    result = run(*RANK, "--column", "base_score=1,3,2", "--column", "bm25=0.5,,2", "--view", "features", "--timings")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["rank", "id", "score", "base", "bm25"]
    assert lines[2:5] == [
        ["1", "unknown-b", "(unknown)", "6", "3", "–"],
        ["2", "c", "4", "2", "2"],
        ["3", "a", "2", "1", "0.5"],
    ]
    assert ["base", "12"] in lines
    assert "3 of 3 candidates" in result.stderr and "1 unknown" in result.stderr
    assert "\x1b" not in result.stdout, "no colours where there is no terminal"


def test_rank_sends_what_the_options_say(run, fake, tmp_path):
    run(
        *RANK, "--query", "laptop", "--user", "u1", "--visitor", "v1", "--session", "s1",
        "--surface", "browse", "--page-size", "2",
        "--as-of", "2026-01-02T03:04:05",
        "--context", "hour=12", "--context", "mobile=true", "--context", "country=de", "--context", "code:category=12",
        "--context", "page:text=front", "--context", "groups:set=x|y", "--context", "v:embedding=1,2",
        "--context", "at:timestamp=2026-01-02T00:00:00+01:00", "--context", "n:number=1e3", "--context", "off:bool=0",
    )  # fmt: skip
    (sent,) = fake.requests("Rank")
    assert list(sent.candidates.ids) == ["a", "unknown-b", "c"]
    assert (sent.query.text, sent.user.user_id, sent.page_size) == ("laptop", "u1", 2)
    assert (sent.user.visitor_id, sent.user.session_id) == ("v1", "s1")
    assert sent.surface == ranking_pb2.SURFACE_BROWSE and sent.as_of.ToJsonString() == "2026-01-02T03:04:05Z"
    context = sent.context_features
    assert context["hour"].number == 12 and context["mobile"].flag and context["country"].category == "de"
    assert context["code"].category == "12" and context["page"].text == "front" and context["n"].number == 1000
    assert list(context["groups"].set.values) == ["x", "y"] and list(context["v"].vector.values) == [1, 2]
    assert context["at"].timestamp.ToJsonString() == "2026-01-01T23:00:00Z"
    assert context["off"].WhichOneof("value") == "flag" and not context["off"].flag


def test_rank_as_json(run):
    result = run(*RANK, "--column", "base_score=1,3,2", "--column", "bm25=0.5,,2", "--view", "features", "--json")
    document = json.loads(result.stdout)
    assert document["items"][0] == {
        "rank": 1, "id": "unknown-b", "index": 1, "score": 6.0, "base_score": 3.0, "features": {"bm25": None},
    }  # fmt: skip
    assert document["missing_ids"] == ["unknown-b"] and document["versions"]["profile"] == "p1"
    assert document["total_count"] == 3 and result.stderr == ""


def test_candidates_from_files(run, fake, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("id,bm25,base_score\na,1.5,7\nb,,8\n")
    run("rank", "--profile", "search", "--columns-file", str(rows))
    run("rank", "--profile", "search", "--ids-file", "-", "--columns-file", str(rows), input="b\nzzz\n\na\n")
    own, given = fake.requests("Rank")
    assert list(own.candidates.ids) == ["a", "b"] and list(own.candidates.base_scores) == [7, 8]
    assert list(given.candidates.ids) == ["b", "zzz", "a"]
    bm25 = list(given.candidates.columns[0].values)
    assert math.isnan(bm25[0]) and math.isnan(bm25[1]) and bm25[2] == 1.5


def test_rank_and_score_take_whole_requests(run, fake, tmp_path):
    (tmp_path / "r.json").write_text('{"profile": "p", "candidates": {"ids": ["x"], "baseScores": ["NaN"]}}')
    assert run("rank", "--request", str(tmp_path / "r.json")).exit_code == 0
    assert run("score", "--request", str(tmp_path / "r.json")).exit_code == 0
    assert math.isnan(fake.requests("Rank")[0].candidates.base_scores[0])
    assert fake.requests("Score")[0].profile == "p"
    bad = run("rank", "--request", "-", input='{"profle": "p"}')
    assert bad.exit_code == ExitCode.USAGE and "rankd.v1.RankRequest" in bad.stderr and "profle" in bad.stderr


def test_features_that_do_not_fit_become_rows(run, fake):
    columns = [text for n in range(30) for text in ("--column", f"feature_{n}=1,2,3")]
    narrow = {"COLUMNS": "60", "FORCE_COLOR": "1", "RANKD_ADDRESS": f"127.0.0.1:{fake.port}"}
    wide = run(*RANK, *columns, "--view", "features", env=narrow)
    lines = [line for line in wide.stdout.splitlines() if "feature_" in line]
    assert len(lines) == 30, "each feature is one line"
    piped = run(*RANK, *columns, "--view", "features")
    assert sum("feature_" in line for line in piped.stdout.splitlines()) == 1, "a pipe has any width"


def test_plot_draws_bars(run):
    result = run(*RANK, "--column", "base_score=1,2,4", "--plot")
    bars = [line.count("█") for line in result.stdout.splitlines() if "█" in line]
    assert bars == [BAR_WIDTH, BAR_WIDTH // 2, BAR_WIDTH // 4]


def test_bars():
    assert bar(0, 0, 1) == "" and bar(1, 0, 1) == "█" * BAR_WIDTH and bar(math.nan, 0, 1) == ""
    assert bar(0.5 / 8 / BAR_WIDTH * 3, 0, 1) == "▎" and bar(5, 5, 5) == "█" * BAR_WIDTH


def test_text_cannot_move_the_cursor():
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n" and printable("ünï [bold]") == "ünï [bold]"


def test_score_keeps_the_order(run):
    result = run("score", "--profile", "search", "--ids", "bbb,a", "--column", "c=1,2", "--features")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["index", "id", "score", "c"]
    assert lines[2:4] == [["0", "bbb", "(unknown)", "3", "1"], ["1", "a", "1", "2"]]
    document = json.loads(run("score", "--profile", "search", "--ids", "bbb,a", "--json").stdout)
    assert document["items"] == [{"id": "bbb", "outputs": {"score": 3.0}}, {"id": "a", "outputs": {"score": 1.0}}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rank", "--ids", "a"), "--profile"),
        (("rank", "--profile", "p"), "no candidates"),
        (("rank", "--profile", "p", "--ids", "a", "--ids-file", "-"), "exclude each other"),
        (("rank", "--profile", "p", "--ids", "a,b", "--column", "x=1"), "expected 2 numbers"),
        (("rank", "--profile", "p", "--ids", "a", "--column", "x"), "expected NAME="),
        (("rank", "--profile", "p", "--ids", "a", "--column", "x=y"), "expected a number"),
        (("rank", "--profile", "p", "--ids", "a", "--context", "x"), "expected NAME=VALUE"),
        (("rank", "--profile", "p", "--ids", "a", "--context", "x:color=red"), "expected a type of number, bool"),
        (("rank", "--profile", "p", "--ids", "a", "--context", "x:number=red"), "expected a number"),
        (("rank", "--profile", "p", "--ids", "a", "--as-of", "yesterday"), "expected a time"),
        (("load", "/no/such/file"), "does not exist"),
        (("load", __file__, "--entity", "brand"), "expected one of item"),
    ],
)
def test_wrong_usage(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE and message in result.stderr and not result.stdout


def test_errors_of_the_server_are_one_line(run, fake):
    fake.failures = [status(grpc.StatusCode.NOT_FOUND, "profile: expected one of a, b")]
    result = run(*RANK)
    assert result.exit_code == ExitCode.FAILED and result.stderr == "Error: NOT_FOUND: profile: expected one of a, b\n"


def test_a_server_that_cannot_is_not_one_that_is_away(run, fake):
    refusal = status(grpc.StatusCode.UNAVAILABLE, "Redis does not answer", error_info("UNAVAILABLE"))
    fake.failures = [refusal] * 20
    result = run(*RANK)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stderr == f"Error: rankd at 127.0.0.1:{fake.port} cannot do this now: Redis does not answer\n"


def test_what_was_left_out_is_said(run, fake):
    level = ranking_pb2.DegradationLevel.DEGRADATION_LEVEL_STALE_SIGNALS
    fake.degradation = ranking_pb2.Degradation(level=level, reasons=["signals_unavailable"])
    assert run(*RANK).stderr.splitlines()[-1] == "degraded: stale signals (signals_unavailable)"
    found = json.loads(run(*RANK, "--json").stdout)["degradation"]
    assert found == {"level": "stale_signals", "reasons": ["signals_unavailable"], "stages_skipped": []}


@pytest.mark.parametrize("arguments", [RANK, ("get", "a"), ("load", __file__)])
def test_no_server(run, arguments):
    result = run(*arguments, "--address", "127.0.0.1:1")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stderr == "Error: cannot reach rankd at 127.0.0.1:1: Connection refused\n"


def test_a_slow_server(run, fake):
    fake.delay_s = 3
    result = run(*RANK, "--timeout", "0.2")
    assert result.exit_code == ExitCode.UNREACHABLE and "within 0.2 s" in result.stderr


def test_get(run):
    result = run("get", "a", "b")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["price", "2.5", "–"] in lines and ["brand", "–", "–"] in lines
    assert ["released", "1970-01-01T00:00:01.000Z", "–"] in lines
    assert result.stderr == "unknown: b\n" and result.exit_code == 0
    document = json.loads(run("get", "a", "b", "--json").stdout)
    assert document["rows"][0]["signals"] == {"price": 2.5, "brand": None, "released": "1970-01-01T00:00:01.000Z"}
    assert document["missing_ids"] == ["b"]


def test_get_sends_what_it_is_given(run, fake):
    run("get", "x", " y ", "--signals", "a, b")
    (sent,) = fake.requests("GetSignals")
    assert sent.entity == "item" and list(sent.ids) == ["x", " y "] and list(sent.signals) == ["a", "b"]


def write_items(path, count, **changes):
    with path.open("w") as file:
        for n in range(count):
            print(changes.get(f"line{n + 1}") or json.dumps({"id": f"i{n}", "price": n}), file=file)
    return str(path)


def test_load_writes_the_good_rows_and_names_the_others(run, fake, tmp_path):
    path = write_items(
        tmp_path / "i.jsonl", 25, line3="{", line8='{"id": "x", "price": "much"}', line9='{"id": "y", "q": 1}'
    )
    fake.reject = lambda request: [
        RejectedRow(row=row, field=f"columns[0].floats.values[{row}]", description="expected less, got more")
        for row, entity_id in enumerate(request.ids)
        if entity_id == "i12"
    ]
    rejects = tmp_path / "rejects.jsonl"
    result = run("load", path, "--batch-rows", "10", "--rejects", str(rejects))
    assert result.exit_code == ExitCode.FAILED
    assert result.stdout.startswith("21 rows written, 4 rejected")
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == ["3", "8", "9", "13"]
    entries = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [e["line"] for e in entries] == [3, 8, 9, 13]
    assert entries[3] == {
        "file": path, "line": 13, "id": "i12", "field": "price", "reason": "expected less, got more",
    }  # fmt: skip
    sent = {i for request in fake.requests("WriteSignals") for i in request.ids}
    assert sent == {f"i{n}" for n in range(25)} - {"i2", "i7", "i8"}
    assert run("load", path, "--allow-rejects", "--unknown", "ignore").exit_code == 0


def test_load_shows_the_first_rejects_and_counts_the_rest(run, tmp_path):
    path = tmp_path / "i.csv"
    path.write_text("id,price\n" + "a,x\n" * 50 + "b,1\n")
    result = run("load", str(path), "--json")
    lines = result.stderr.splitlines()
    assert len(lines) == 21 and lines[-1] == "and 30 more; --rejects FILE lists all"
    summary = json.loads(result.stdout)
    assert (summary["written"], summary["rejected"]) == (1, 50)


@pytest.mark.parametrize(("entity", "ids"), [("item", ["same"]), ("query", ["Red Shoes", " red  shoes"])])
def test_rows_of_one_id_are_written_in_their_order(run, fake, tmp_path, entity, ids):
    """Batches in flight together could overtake each other; those that share a stored id must not."""
    query = fake.schema.entities.add(name="query")
    query.signals.add(name="price", type="f32")
    path = tmp_path / "i.csv"
    path.write_text("id,price\n" + "".join(f"{ids[n % len(ids)]},{n}\n" for n in range(40)))
    fake.delay_s = 0.01
    assert run("load", str(path), "--entity", entity, "--batch-rows", "1", "--in-flight", "8").exit_code == 0
    prices = [request.columns[0].floats.values[0] for request in fake.requests("WriteSignals")]
    assert prices == list(range(40))


def test_a_batch_too_large_is_halved(run, fake, tmp_path):
    fake.limit_rows = 3
    path = write_items(tmp_path / "i.jsonl", 10)
    result = run("load", path, "--batch-rows", "10")
    assert result.exit_code == 0 and result.stdout.startswith("10 rows written, 0 rejected")
    written = [i for request in fake.requests("WriteSignals") if len(request.ids) <= 3 for i in request.ids]
    assert sorted(written) == sorted(f"i{n}" for n in range(10))


def test_load_waits_for_a_server_that_comes_back(run, fake, tmp_path):
    path = write_items(tmp_path / "i.jsonl", 3)
    fake.fail_writes = [status(grpc.StatusCode.UNAVAILABLE, "draining")] * 6  # more than one call's retries
    result = run("load", path)
    assert result.exit_code == 0 and result.stdout.startswith("3 rows written")


def test_load_says_how_far_it_got(run, fake, tmp_path):
    path = write_items(tmp_path / "i.jsonl", 10)
    fake.reject = lambda request: fake.fail_writes.extend([status(grpc.StatusCode.UNAVAILABLE, "gone")] * 99) or []
    result = run("load", path, "--batch-rows", "4", "--in-flight", "1", "--timeout", "0.5")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert f"4 rows are written, {path} up to line 4." in result.stderr and "does no harm" in result.stderr


def test_load_ends_at_a_fault_of_the_whole_batch(run, fake, tmp_path):
    path = write_items(tmp_path / "i.jsonl", 10)
    fake.fail_writes = [status(grpc.StatusCode.INTERNAL, "internal error")]
    result = run("load", path)
    assert result.exit_code == ExitCode.FAILED and "0 rows are written" in result.stderr


def test_load_sends_times_and_write_ids(run, fake, tmp_path):
    path = tmp_path / "i.jsonl"
    rows = [{"id": "a", "price": 1, "at": 5, "at:price": 3}, {"id": "b", "at": "1970-01-01T00:00:01Z"}, {"id": "c"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run("load", str(path), "--time-field", "at", "--write-id", "monday", "--allow-rejects")
    assert result.exit_code == 0 and 'i.jsonl:3: expected a time in "at", got nothing' in result.stderr
    (sent,) = fake.requests("WriteSignals")
    assert list(sent.unix_millis) == [5, 1000] and list(sent.columns[0].unix_millis) == [3]
    assert sent.write_id == "monday/0/1-2"
    run("load", str(path), "--allow-rejects", "--unknown", "ignore")
    assert not fake.requests("WriteSignals")[1].unix_millis and not fake.requests("WriteSignals")[1].write_id


def test_load_says_what_came_late(run, fake, tmp_path):
    fake.late_count = 2
    result = run("load", write_items(tmp_path / "i.jsonl", 3))
    assert "2 values older than what is there" in result.stdout


def test_a_console_script_in_a_process_of_its_own(fake):
    done = subprocess.run(
        [sys.executable, "-m", "rankd", *RANK, "--address", f"127.0.0.1:{fake.port}", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 and json.loads(done.stdout)["total_count"] == 3, done.stderr
    assert done.stderr == "", "gRPC writes nothing of its own"
