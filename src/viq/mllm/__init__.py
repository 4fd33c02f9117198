"""The language model that reads features: projector, packed attention, model."""
