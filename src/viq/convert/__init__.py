"""Weights of other people's formats, turned into this package's own."""
