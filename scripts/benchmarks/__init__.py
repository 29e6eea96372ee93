"""What scripts/bench runs: a file for each of its commands."""
