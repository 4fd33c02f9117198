"""Lets transformers' Auto classes find those of this model, in the package viq.

    AutoModelForCausalLM.from_pretrained(..., trust_remote_code=True)

Where viq.mllm is imported, this file is not run and the option not needed.
"""

from viq.mllm import MultimodalConfig, MultimodalModel, Processor

__all__ = ["MultimodalConfig", "MultimodalModel", "Processor"]
