"""rankd: a ranking daemon. See README.md; the floors are listed in docs/architecture.md."""

__version__ = "0.1.0"
