"""Floor 0: the vocabulary. Plain immutable values, no I/O, no logic beyond their own invariants."""
