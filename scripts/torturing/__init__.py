"""The commands of scripts/torture, one file each."""
