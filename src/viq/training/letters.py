"""A loss for reading: a line of text, letter by letter, from the features of its picture.

A language model learns to read from few answers only when it can already read. Where none of
that is there yet, connectionist temporal classification
(https://www.cs.toronto.edu/~graves/icml_2006.pdf) gets to letters with a small part of the
samples: it is told the letters of a line and their order, not where they are.

Axes: N patches of all images, C width, h x w patches of one image, T frames, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viq.model.packing import Packing

ALPHABET = (
    " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    ".,:;!?'\"-+*/=%&@#()[]{}<>_|\\~^`$€£¥°"
)
FRAMES = 8  # of a column of patches, 2 pixels of 16 each: letters may be as narrow as 4
_BLANK, _OTHER = 0, 1  # classes; then the alphabet's


class LetterReader(nn.Module):
    """Each column of patches becomes frames, and each frame a letter or a blank."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, FRAMES)  # which row of a column has the line
        self.letters = nn.Linear(width, FRAMES * (len(ALPHABET) + 2))

    def forward(self, features: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """Log-probabilities (T, K) of one image's features (h * w, C), float32."""
        rows = self.norm(features).unflatten(0, grid_size)  # (h, w, C)
        shares = self.score(rows).float().softmax(0).unsqueeze(-1)  # (h, w, FRAMES, 1)
        letters = self.letters(rows).float().unflatten(-1, (FRAMES, -1))
        return (shares * letters).sum(0).flatten(0, 1).log_softmax(-1)

    def loss(self, features: Tensor, packing: Packing, lines: Sequence[str | None]) -> Tensor:
        """The sum over all lines of their mean negative log-likelihood a letter.

        Args:
            features: (N, C) of all images.
            packing: the images.
            lines: what each says, None where it is not a single line.
        """
        read = self._read(features, packing, lines)
        if not read:
            return features.new_zeros((), dtype=torch.float32)
        frames = [len(logs) for logs, _ in read]
        targets = [_classes(line) for _, line in read]
        losses = F.ctc_loss(
            nn.utils.rnn.pad_sequence([logs for logs, _ in read]),
            torch.cat(targets),
            torch.tensor(frames),
            torch.tensor([len(target) for target in targets]),
            blank=_BLANK,
            reduction="none",
            zero_infinity=True,  # a line of more letters than frames teaches nothing
        )
        return (losses / torch.tensor([len(t) for t in targets], device=losses.device)).sum()

    @torch.no_grad()
    def exact(self, features: Tensor, packing: Packing, lines: Sequence[str | None]) -> float:
        """The share of lines of which every letter is right; NaN if there are none."""
        read = self._read(features, packing, lines)
        right = [_collapsed(logs.argmax(-1)) == _classes(line).tolist() for logs, line in read]
        return sum(right) / len(right) if right else float("nan")

    def _read(
        self, features: Tensor, packing: Packing, lines: Sequence[str | None]
    ) -> list[tuple[Tensor, str]]:
        images = zip(packing.split(features), packing, lines, strict=True)
        return [(self(one, size), line) for one, size, line in images if line]


def _classes(line: str) -> Tensor:
    found = (ALPHABET.find(letter) for letter in line)
    return torch.tensor([_OTHER if place < 0 else place + 2 for place in found])


def _collapsed(best: Tensor) -> list[int]:
    kept = torch.unique_consecutive(best)
    return [int(label) for label in kept if label != _BLANK]
