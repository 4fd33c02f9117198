"""What lmms-eval finds by the entry point ``viq`` of its group ``lmms_eval.models``."""

from typing import Any


def manifest() -> Any:
    """Names the classes that answer: of conversations, and with ``--force_simple`` of texts."""
    from lmms_eval.models.registry_v2 import ModelManifest  # type: ignore[import-not-found]

    place = "viq.evaluation.lmms_eval.model"
    return ModelManifest(
        model_id="viq", chat_class_path=f"{place}.ViQ", simple_class_path=f"{place}.SimpleViQ"
    )
