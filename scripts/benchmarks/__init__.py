"""The commands of scripts/bench, one file each."""
