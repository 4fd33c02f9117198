"""How codes use their codebook, how stable they are, and what neighbours decode to."""
