"""The public face: images to codes, codes to features, latents and images.

Axes: N patches of an image, Q code heads, K code dimensions, C width, (h, w) grid of patches.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from PIL import Image
from torch import Tensor, nn

from viq.checkpoint import ModelFiles, TokenizerConfig, fingerprint, save
from viq.codes import Codes
from viq.errors import CodesError, FingerprintError, ModelError
from viq.external.vae import Vae, load_vae
from viq.image import ImageConfig, ImageSource, Prepared, patchify, prepare, to_image
from viq.model.embedder import CodeEmbedder
from viq.model.network import PARTS, Network, build_part
from viq.model.packing import Packing

R = TypeVar("R")
ImageT = TypeVar("ImageT", bound=ImageSource | Prepared)  # lists are invariant, hence variables
AnyT = TypeVar("AnyT", bound=ImageSource | Prepared | Codes)


def load(
    model: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
) -> "Tokenizer":
    """Loads a tokenizer by bundled name, folder, or Hugging Face hub id.

    Args:
        model: for example "nano".
        device: "cpu" by default.
        dtype: float32 by default, whatever is stored. In bfloat16 it is faster, and a few codes
            in a hundred come out otherwise.
        revision: of a hub model.

    Raises:
        ModelError: there is no such model, or its files are damaged.
    """
    return Tokenizer.from_pretrained(model, device=device, dtype=dtype, revision=revision)


def load_embedder(
    model: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
) -> CodeEmbedder:
    """Loads the code embedder alone: integer codes (N, Q) to features (N, C).

    Arguments and errors as for ``load``; neither encoder nor decoder is read.
    """
    embedder = load(model, device=device, dtype=dtype, revision=revision).part("embedder")
    assert isinstance(embedder, CodeEmbedder)
    return embedder


class Tokenizer(ModelHubMixin, library_name="viq"):
    """Encodes images of any size to codes and decodes them.

    Get one by ``viq.load``. Parts are read from disk when they are first used: encoding never
    loads the decoder, decoding never the encoder. It does not change once made; a training run
    makes a new one by ``from_network``.
    """

    def __init__(
        self,
        shape: TokenizerConfig,
        files: ModelFiles | None = None,
        parts: dict[str, nn.Module] | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> None:
        """For ``from_network`` and ``from_pretrained``, which are what to call."""
        self.config = shape
        self.device = torch.device(device or "cpu")
        self.dtype = _dtype(dtype)
        self._files = files
        self._parts = dict(parts or {})

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        **hub_options: Any,
    ) -> "Tokenizer":
        """What ``viq.load`` calls, with huggingface_hub's options (``token``, ``cache_dir`` ...).

        The mixin's own would look for bundled names on the hub, and not check ``config.json``.
        """
        files = ModelFiles(str(pretrained_model_name_or_path), revision, tuple(hub_options.items()))
        return cls(files.config(), files, device=device, dtype=dtype)

    @classmethod
    def from_network(
        cls, network: Network, image: ImageConfig, vae: Vae | None = None
    ) -> "Tokenizer":
        """A tokenizer of a trained network's own weights; its fingerprint is computed here."""
        parts = dict(network.named_children())
        name = fingerprint(image, parts["encoder"], parts["head"])
        config = TokenizerConfig(network=network.config, image=image, fingerprint=name)
        if vae is not None:
            parts["vae"] = vae
        parameter = next(network.parameters())
        return cls(config, parts=parts, device=parameter.device, dtype=parameter.dtype)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str | None:
        """Writes the tokenizer to a folder, with a model card; one that is not ours is kept.

        Args:
            save_directory: of the files; ``viq.load`` takes it.
            model_card_kwargs: what the card says: ``license``, ``data``, ``scores`` and what else
                ``viq.card.saved_card`` takes. Where it is given, any card is written anew.
            options: huggingface_hub's: ``push_to_hub``, ``repo_id`` and those of that method.
        """
        from viq.card import keeps_card  # where pictures are encoded, nothing of cards is loaded

        folder = Path(save_directory)
        if model_card_kwargs or not keeps_card(folder):
            (folder / "README.md").unlink(missing_ok=True)
        told = {"where": str(folder)} | dict(model_card_kwargs or {}) | {"folder": folder}
        return super().save_pretrained(folder, model_card_kwargs=told, **options)

    def push_to_hub(
        self, repo_id: str, *, model_card_kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> str:
        """Writes the tokenizer, with its card, to a repository on the hub; returns the commit.

        Args:
            repo_id: owner/name.
            model_card_kwargs: as for ``save_pretrained``.
            options: huggingface_hub's: ``commit_message``, ``private``, ``token``, ``branch`` ...
        """
        told = dict(model_card_kwargs or {}) | {"where": repo_id}
        return super().push_to_hub(repo_id, model_card_kwargs=told, **options)

    def generate_model_card(self, *, folder: Path, **about: Any) -> ModelCard:
        """What the mixin calls where there is no card; ``folder`` has all files by then."""
        from viq.card import saved_card

        return ModelCard(saved_card(folder, **about))

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides what a code means; codes carry it."""
        return self.config.fingerprint

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> Self:
        """Moves the parts, now and when they are loaded, as ``nn.Module.to`` does."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        self.device = self.device if device is None else torch.device(device)
        self.dtype = self.dtype if dtype is None else _dtype(dtype)
        for part in self._parts.values():
            part.to(self.device, self.dtype)
        return self

    # Images to codes.

    def prepare(self, image: ImageSource, *, max_pixels: int | None = None) -> Prepared:
        """Reads one image and pads it, as ``encode`` does first; ``encode`` takes the result too.

        Args:
            image: path, PIL image, uint8 array (H, W, 3), or float tensor (3, H, W) in [-1, 1].
            max_pixels: larger pictures are scaled down to this many; the model's own by default.

        Raises:
            ImageError: the image cannot be read or is out of bounds.
        """
        config = self.config.image
        if max_pixels is not None:
            config = replace(config, max_pixels=max_pixels)
        return prepare(image, config)

    @overload
    def encode(self, images: list[ImageT], *, batch_patches: int = ...) -> list[Codes]: ...
    @overload
    def encode(self, images: ImageSource | Prepared, *, batch_patches: int = ...) -> Codes: ...
    def encode(self, images: Any, *, batch_patches: int = 4096) -> Any:
        """Codes of each image; one in, one out, a list in, a list out, in order.

        Args:
            images: path, PIL image, uint8 array (H, W, 3), float tensor (3, H, W) in [-1, 1], or
                what ``prepare`` returned; or a list of such.
            batch_patches: patches that run through the network at once. It bounds memory and
                does not change the codes.

        Raises:
            ImageError: an image cannot be read or is out of bounds.
            ModelError: the tokenizer is proximal and has no codes.
        """
        levels = self.config.network.head.quantizer.code_levels
        if levels is None:
            raise ModelError("this tokenizer is proximal: it has latents but no codes")

        dtype = "uint16" if math.prod(levels) <= 2**16 else "uint32"

        def codes_of(patches: Tensor, packing: Packing) -> Tensor:
            codes: Tensor = self.part("head").quantize(self._latents(patches, packing)).codes
            return codes.cpu()  # one read of the device a batch

        def to_codes(codes: Tensor, one: Prepared) -> Codes:
            return Codes(
                values=codes.numpy().astype(dtype),
                grid_size=one.grid_size,
                original_size=one.original_size,
                encoded_size=one.encoded_size,
                levels=levels,
                fingerprint=self.fingerprint,
                patch_size=self.config.image.patch_size,
            )

        return self._each_image(images, codes_of, to_codes, batch_patches)

    @overload
    def features(self, images: list[ImageT]) -> list[Tensor]: ...
    @overload
    def features(self, images: ImageSource | Prepared) -> Tensor: ...
    def features(self, images: Any) -> Any:
        """The encoder's output (N, C) of each image, before the head; continuous."""
        return self._each_image(images, self._features, lambda rows, _: rows)

    @overload
    def latents(self, images: list[ImageT]) -> list[Tensor]: ...
    @overload
    def latents(self, images: ImageSource | Prepared) -> Tensor: ...
    def latents(self, images: Any) -> Any:
        """The values before rounding (N, Q, K) of each image."""
        return self._each_image(images, self._latents, lambda rows, _: rows)

    @overload
    def pooled(self, images: list[AnyT]) -> list[Tensor]: ...
    @overload
    def pooled(self, images: ImageSource | Prepared | Codes) -> Tensor: ...
    def pooled(self, images: Any) -> Any:
        """The semantic token (C,) of each image: of the encoder's features, or from codes.

        Raises:
            ModelError: this model's pooling was never trained, so it has none.
        """
        pool = self.part("pool")

        def to_token(features: Tensor, grid_size: tuple[int, int]) -> Tensor:
            token: Tensor = pool(features, Packing.of([grid_size]))
            return token[0]

        first = images[0] if _is_list(images) and images else images
        with torch.no_grad():
            if isinstance(first, Codes):
                return _map(images, lambda c: to_token(self.embed(c), c.grid_size))
            return self._each_image(
                images, self._features, lambda rows, one: to_token(rows, one.grid_size)
            )

    # Codes to features and images.

    @overload
    def embed(self, codes: list[Codes]) -> list[Tensor]: ...
    @overload
    def embed(self, codes: Codes) -> Tensor: ...
    def embed(self, codes: Any) -> Any:
        """Features (N, C) of each image's codes.

        Raises:
            FingerprintError: the codes are another tokenizer's.
        """
        embedder = self.part("embedder")
        with torch.no_grad():
            return _map(codes, lambda one: embedder(self._checked(one)))

    @overload
    def vae_latents(self, codes: list[Codes]) -> list[Tensor]: ...
    @overload
    def vae_latents(self, codes: Codes) -> Tensor: ...
    def vae_latents(self, codes: Any) -> Any:
        """VAE latents (L, 2h, 2w) that the latent head predicts from each image's codes.

        Raises:
            FingerprintError: the codes are another tokenizer's.
            ModelError: this model has no latent head.
        """
        head = self.part("latent_head")
        with torch.no_grad():
            return _map(codes, lambda c: head(self.embed(c), Packing.of([c.grid_size]))[0])

    @overload
    def decode(self, codes: list[Codes]) -> list[Image.Image]: ...
    @overload
    def decode(self, codes: Codes) -> Image.Image: ...
    def decode(self, codes: Any) -> Any:
        """PIL images of the original sizes; the padding is cropped away.

        Raises:
            FingerprintError: the codes are another tokenizer's.
            ModelError: this model has no decoder.
        """
        vae = self.vae()

        def to_picture(one: Codes) -> Image.Image:
            pixels = vae.decode(self.vae_latents(one)[None])[0]
            return to_image(
                pixels.float().cpu(),
                encoded_size=one.encoded_size,
                original_size=one.original_size,
            )

        with torch.no_grad():
            return _map(codes, to_picture)

    # Inside.

    def _each_image(
        self,
        images: Any,
        network: Callable[[Tensor, Packing], Tensor],
        finish: Callable[[Tensor, Prepared], R],
        batch_patches: int = 4096,
    ) -> R | list[R]:
        """Runs images through a network in packed batches and finishes each, in order."""
        results: list[R] = []
        with torch.no_grad():
            for batch in self._batches(images if _is_list(images) else [images], batch_patches):
                # Equal grids side by side share one attention call.
                order = sorted(range(len(batch)), key=lambda i: batch[i].grid_size)
                packing = Packing.of(batch[i].grid_size for i in order)
                patches = torch.cat(
                    [patchify(batch[i].pixels, self.config.image.patch_size) for i in order]
                )
                rows = network(patches.to(self.device, self.dtype), packing)
                done = dict(zip(order, packing.split(rows), strict=True))
                results += [finish(done[i], one) for i, one in enumerate(batch)]
        return results if _is_list(images) else results[0]

    def _batches(self, images: Sequence[Any], batch_patches: int) -> Iterator[list[Prepared]]:
        batch: list[Prepared] = []
        patches = 0
        for image in images:
            one = image if isinstance(image, Prepared) else self.prepare(image)
            count = one.grid_size[0] * one.grid_size[1]
            if batch and patches + count > batch_patches:
                yield batch
                batch, patches = [], 0
            batch.append(one)
            patches += count
        if batch:
            yield batch

    def _features(self, patches: Tensor, packing: Packing) -> Tensor:
        features: Tensor = self.part("encoder")(patches, packing)
        return features

    def _latents(self, patches: Tensor, packing: Packing) -> Tensor:
        latents: Tensor = self.part("head")(self._features(patches, packing), packing)
        return latents

    def _checked(self, codes: Codes) -> Tensor:
        if codes.fingerprint != self.fingerprint:
            raise FingerprintError(self.fingerprint, codes.fingerprint)
        head = self.config.network.head
        for name, found, own in (
            ("levels", codes.levels, head.quantizer.code_levels),
            ("code heads", codes.code_heads, head.code_heads),
            ("patch size", codes.patch_size, self.config.image.patch_size),
        ):
            if found != own:
                raise CodesError(f"the codes' {name}, {found}, are not the tokenizer's, {own}")
        return torch.from_numpy(codes.values.astype("int64")).to(self.device)

    def part(self, name: str) -> Any:
        """A part of the network (``encoder``, ``head`` ...), read when first asked for."""
        if name not in self._parts:
            if getattr(self.config.network, name) is None:
                raise ModelError(f"this model has no {name}: it has not been trained")
            assert self._files is not None
            tensors = self._files.tensors(name)
            try:
                with torch.device("meta"):
                    part = build_part(self.config.network, name)
                part.load_state_dict(tensors, strict=True, assign=True)
            except (RuntimeError, ValueError) as error:
                reason = f"weights and config.json do not fit: {error}"
                raise ModelError(reason, self._files.file("model.safetensors")) from error
            part.eval().requires_grad_(False)
            self._parts[name] = part.to(self.device, self.dtype)
        return self._parts[name]

    def vae(self) -> Vae:
        """The autoencoder between VAE latents and pixels, read when first asked for."""
        if "vae" not in self._parts:
            if self._files is None:
                raise ModelError("this tokenizer was made without a VAE, so it cannot decode")
            self._parts["vae"] = load_vae(self._files.vae()).to(self.device, self.dtype)
        vae = self._parts["vae"]
        assert isinstance(vae, Vae)
        return vae

    def _save_pretrained(self, save_directory: Path) -> None:
        parts = {
            name: self.part(name)
            for name in PARTS
            if getattr(self.config.network, name) is not None
        }
        has_vae = "vae" in self._parts or (self._files is not None and self._files.has_vae())
        save(save_directory, self.config, parts, self.vae().save if has_vae else None)


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"no floating dtype {dtype!r}; take float32, bfloat16 or float16.")
    return found


def _is_list(inputs: Any) -> bool:
    # Codes, Prepared and PIL images are single; of these Prepared is a tuple too.
    return isinstance(inputs, list | tuple) and not isinstance(inputs, Prepared)


def _map(inputs: Any, function: Callable[[Any], R]) -> R | list[R]:
    return [function(one) for one in inputs] if _is_list(inputs) else function(inputs)
