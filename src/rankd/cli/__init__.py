"""Floor 5: the command line, and the one place that puts the concrete parts together. See docs/cli.md."""
