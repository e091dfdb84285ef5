"""What the benchmarks share: machines, processes, synthetic workspaces, reports."""
