"""Trains a tiny tokenizer from nothing on a folder of pictures: pixels to codes to VAE latents.

It is the method's reconstruction loss alone, in a loop that fits on a page. What it makes is a blur
after a minute; the stages of `viq train` make tokenizers of use.
Run as: python examples/train_tokenizer.py photos/ --steps 300 --out tiny/
"""

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import viq
from viq.image import ImageConfig, load_image, patchify, to_pixels
from viq.model.encoder import EncoderConfig
from viq.model.head import QuantizerConfig
from viq.model.network import Network
from viq.model.packing import Packing
from viq.model.shape import CodeBlocks, Shape, network_config

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PATCH, CROP = 16, 64  # pixels on a side
LEVELS = (8, 8, 8, 5, 5, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, nargs="?", metavar="DIR", help="default: samples")
    parser.add_argument("--vae", default="nano", help="tokenizer whose VAE is taken, frozen")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16, help="crops of a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    pictures = load(args.pictures)
    vae = viq.load(args.vae).vae()
    network = tiny_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=args.steps)
    losses = []
    for _ in (bar := tqdm(range(args.steps), unit="step")):
        crops = torch.stack([crop(pictures) for _ in range(args.batch)])
        with torch.no_grad():
            target = vae.encode(crops)
        loss = F.mse_loss(latents_of(network, crops), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.4f}")
    tokenizer = viq.Tokenizer.from_network(network.eval(), ImageConfig(), vae)
    said = {"data": f"{len(pictures)} pictures, {args.steps} steps.", "limits": ("A toy.",)}
    tokenizer.save_pretrained(args.out / "tokenizer", model_card_kwargs=said)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{parameters:,} parameters; loss {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
    print(f"look: viq compare PICTURE --model {args.out / 'tokenizer'} --out compare.png")


def load(folder: Path | None) -> list[Tensor]:
    """All pictures, as pixels (3, H, W) in [-1, 1]."""
    with as_file(files("viq") / "samples") as samples:
        paths = sorted(p for p in (folder or samples).rglob("*") if p.suffix.lower() in SUFFIXES)
        pictures = [to_pixels(load_image(path)) for path in paths]
    whole = [pixels for pixels in pictures if min(pixels.shape[1:]) >= CROP]
    if not whole:
        raise SystemExit(f"{folder} has no picture of at least {CROP} x {CROP} pixels")
    return whole


def crop(pictures: list[Tensor]) -> Tensor:
    """A random square of a random picture."""
    pixels = pictures[int(torch.randint(len(pictures), ()))]
    top, left = (int(torch.randint(size - CROP + 1, ())) for size in pixels.shape[1:])
    return pixels[:, top : top + CROP, left : left + CROP]


def tiny_network() -> Network:
    """Every part of the method, a few layers deep."""
    width = 96
    encoder = EncoderConfig(
        width=width, depth=3, attention_heads=3, mlp_width=2 * width, position_side=8
    )
    shape = Shape(
        code_width=32,
        depth=1,
        mlp_width=2 * width,
        expand_width=None,
        refine=False,
        merge_width=None,
        embedder_mlp_width=None,
        residual_depth=1,
        residual_width=width,
        latent_depth=1,
        adapter_width=None,
    )
    blocks = CodeBlocks(depth=1, mlp_width=64, attention_width=32)
    return Network(network_config(encoder, None, shape, QuantizerConfig(levels=LEVELS), blocks))


def latents_of(network: Network, crops: Tensor) -> Tensor:
    """What the latent head makes of the codes of crops (B, 3, H, W)."""
    grid = (CROP // PATCH, CROP // PATCH)
    packing = Packing.of([grid] * len(crops))
    embedded = network(patchify(crops, PATCH), packing).embedded  # gradients pass the rounding
    assert network.latent_head is not None
    return torch.stack(network.latent_head(embedded, packing))


if __name__ == "__main__":
    main()
