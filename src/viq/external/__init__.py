"""Frozen foreign networks, one file each: where it comes from, how it loads."""
