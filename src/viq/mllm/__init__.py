"""The language model that reads images: config, model and processor, known to the Auto classes."""

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from viq.mllm.config import AdapterConfig, MultimodalConfig
from viq.mllm.model import MultimodalModel
from viq.mllm.processor import Processor

__all__ = ["AdapterConfig", "MultimodalConfig", "MultimodalModel", "Processor"]

AutoConfig.register(MultimodalConfig.model_type, MultimodalConfig)
AutoModelForImageTextToText.register(MultimodalConfig, MultimodalModel)
AutoModelForCausalLM.register(MultimodalConfig, MultimodalModel)
AutoProcessor.register(MultimodalConfig, Processor)  # type: ignore[no-untyped-call]
