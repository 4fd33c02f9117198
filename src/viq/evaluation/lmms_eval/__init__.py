"""Our multimodal models for lmms-eval, the field's own harness: ``--model viq``."""
