"""Training: one loop, and one file a stage."""
