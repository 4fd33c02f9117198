"""Measures as pure functions: how close two images are, and what codes cost."""
