"""What bench_forest.py is made of: data, models, engines, the clock, the tables."""
