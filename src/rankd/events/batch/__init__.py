"""Signals from an event history: the sources that the schema declares, run by DuckDB or Spark through Ibis."""
