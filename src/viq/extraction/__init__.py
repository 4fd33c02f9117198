"""Extraction: sources of images become code data sets, unit by unit."""
