"""Studies: recipes, runs, checkpoints, executors, statistics and the report."""
