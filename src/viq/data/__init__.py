"""Samples: where they come from, how they are cut, and in which order they come."""
