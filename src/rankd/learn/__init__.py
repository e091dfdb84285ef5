"""Floor 4: training and evaluation. Feature rows and rankings come from a running server, never from a copy of it."""
