"""Encoding pictures of mixed native sizes: packed, one by one, padded, and SigLIP 2 NaFlex.

python benchmarks/encode.py

The pictures are noise of log-uniform area from 64^2 to 768^2 and aspect from 1:3 to 3:1, and
run through encoder and head of ``--preset`` with random weights: speed does not depend on them.
"Padded" is the same network with every picture of a batch padded to the batch's largest height
and width. NaFlex is transformers' Siglip2VisionModel of the same width and depth with as many
patches as the largest picture, as its processor would batch them; it has no quantization head,
so the encoder's share of ours is given beside it.
"""

import math

import numpy as np
import torch
from report import arguments, medians, report
from torch import Tensor

from viq.image import ImageConfig, prepare
from viq.model.network import Network
from viq.model.presets import PRESETS
from viq.tokenizer import Tokenizer


def pictures(count: int, seed: int) -> list[np.ndarray]:
    """uint8 (H, W, 3) noise."""
    rng = np.random.default_rng(seed)
    sizes = []
    for _ in range(count):
        area = math.exp(rng.uniform(math.log(64**2), math.log(768**2)))
        aspect = math.exp(rng.uniform(math.log(1 / 3), math.log(3)))
        sizes.append(
            (max(16, round((area / aspect) ** 0.5)), max(16, round((area * aspect) ** 0.5)))
        )
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--preset", default="nano", choices=PRESETS)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8, help="pictures a batch, where padded")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    config = PRESETS[args.preset]()
    network = Network(config).eval().requires_grad_(False)
    tokenizer = Tokenizer.from_network(network, ImageConfig())
    prepared = [prepare(picture, ImageConfig()) for picture in pictures(args.images, args.seed)]
    pixels = sum(h * w for h, w in (one.original_size for one in prepared))
    batches = [prepared[i : i + args.batch] for i in range(0, len(prepared), args.batch)]

    def padded() -> None:
        for batch in batches:
            height = max(one.pixels.shape[1] for one in batch)
            width = max(one.pixels.shape[2] for one in batch)
            same = [
                one._replace(
                    pixels=_pad(one.pixels, height, width), grid_size=(height // 16, width // 16)
                )
                for one in batch
            ]
            tokenizer.latents(same)

    def packed_features() -> None:
        tokenizer.features(prepared)

    naflex = _naflex(config.encoder, prepared, args.batch)
    seconds = medians(
        {
            "packed": lambda: tokenizer.latents(prepared),
            "one by one": lambda: [tokenizer.latents(one) for one in prepared],
            "padded": padded,
            "packed, encoder alone": packed_features,
            "NaFlex (transformers)": naflex,
        },
        args.repeats,
    )
    rows = [
        {
            "way": name,
            "seconds": value,
            "images/s": args.images / value,
            "megapixels/s": pixels / value / 1e6,
            "packed is faster by": value / seconds["packed"],
        }
        for name, value in seconds.items()
    ]
    report(f"encode, {args.preset}, {args.images} pictures, float32", rows, args)


def _pad(image: Tensor, height: int, width: int) -> Tensor:
    missing = (0, width - image.shape[2], 0, height - image.shape[1])
    return torch.nn.functional.pad(image, missing)


def _naflex(encoder, prepared, batch: int):
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    from viq.image import patchify

    model = Siglip2VisionModel(
        Siglip2VisionConfig(
            hidden_size=encoder.width,
            intermediate_size=encoder.mlp_width,
            num_hidden_layers=encoder.depth,
            num_attention_heads=encoder.attention_heads,
            num_patches=encoder.position_side**2,
            vision_use_head=False,
        )
    ).eval()
    groups = [prepared[i : i + batch] for i in range(0, len(prepared), batch)]

    @torch.no_grad()
    def run() -> None:
        for group in groups:
            sizes = [one.grid_size for one in group]
            longest = max(h * w for h, w in sizes)
            rows = torch.zeros(len(group), longest, 3 * 16 * 16)
            mask = torch.zeros(len(group), longest, dtype=torch.int32)
            for i, one in enumerate(group):
                patches = patchify(one.pixels, 16)
                rows[i, : len(patches)], mask[i, : len(patches)] = patches, 1
            model(rows, mask, torch.tensor(sizes))

    return run


if __name__ == "__main__":
    main()
