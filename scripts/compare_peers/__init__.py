"""The parts of scripts/compare: the entrants, their environments and the report."""
