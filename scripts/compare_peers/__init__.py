"""What scripts/compare runs: the entrants, their environments and the report."""
