"""Training: one loop, and one file a stage."""

# In the order in which they follow each other; the last needs none of the others but the first.
STAGES = ("vae", "contrast", "align", "proximal", "quantize", "decoder", "sft", "reconstruct")
