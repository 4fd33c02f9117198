"""How a model is used: code that runs as it stands, with the model and a picture at hand."""

from viq.card.architecture import Model

PICTURE = "photo.jpg"  # that the code reads
QUESTION = "What is this?"
_ASK = """from viq.mllm import MultimodalModel

model = MultimodalModel.from_pretrained("{where}")
processor = model.processor()
content = [{{"type": "image"}}, {{"type": "text", "text": "{question}"}}]
inputs = processor([{{"role": "user", "content": content}}], ["{picture}"])
answer = model.generate(**inputs, max_new_tokens=32, do_sample=False)
print(processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""

_AUTO = (
    "transformers' `AutoModelForCausalLM`, `AutoModelForImageTextToText`, `AutoProcessor` and"
    " `AutoConfig` load it, too: after `import viq.mllm`, or with `trust_remote_code=True`, which"
    " runs `modeling_viq.py`, a file that imports it."
)


def usage_markdown(model: Model, where: str, *, install: str = "") -> str:
    """Code in Python, then commands, for what the folder can do.

    Args:
        model: what is in the folder.
        where: how it is loaded: a bundled name, folder or hub id.
        install: Markdown that comes first: what to install.
    """
    parts = [install.strip()] if install.strip() else []
    commands = []
    if model.tokenizer is not None:
        parts.append(_block("python", tokenizer_code(model, where)))
        if model.levels is not None:
            commands.append(f"$ viq encode {PICTURE} --model {where} --out codes/")
        if model.levels is not None and model.decodes:
            commands.append(f"$ viq decode codes/ --model {where} --out decoded/")
            commands.append(f"$ viq compare {PICTURE} --model {where} --out compare.png")
    # Models that read features are asked by their runs, which name what makes those.
    if model.mllm is not None and model.mllm.get("tokenizer") is not None:
        code = _ASK.format(where=where, picture=PICTURE, question=QUESTION)
        parts.append(_block("python", code))
        if model.tokenizer is None:  # else it is in a folder below, which Auto classes do not see
            parts.append(_AUTO)
        commands.append(f'$ viq ask {PICTURE} "{QUESTION}" --model {where}')
    if commands:
        parts.append(_block("console", "\n".join(commands)))
    return "\n\n".join(parts)


def tokenizer_code(model: Model, where: str) -> str:
    """Python for a tokenizer: pictures to codes and back, or to latents where it has no codes."""
    assert model.tokenizer is not None
    network = model.tokenizer.network
    lines = ["import viq", "", f'tokenizer = viq.load("{where}")']
    if model.levels is None:
        lines.append(f'latents = tokenizer.latents("{PICTURE}")  # (patches, heads, width)')
        return "\n".join(lines)
    heads = network.head.code_heads
    lines += [
        f'codes = tokenizer.encode("{PICTURE}")  # codes.values: (patches, {heads}) integers',
        'codes.save("photo.viq")',
        f"features = tokenizer.embed(codes)  # (patches, {network.embedder.width})",
    ]
    if model.decodes:
        lines.append('tokenizer.decode(codes).save("decoded.png")  # a PIL image of its size')
    return "\n".join(lines)


def _block(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"
