"""The ablations as data: what each row changes of the default, and what the paper found.

A row is one chain of training runs. A group is a question, with the rows that answer it; the
default belongs to many groups and is run once. The paper's figures are averages over eight
benchmarks after fine-tuning Qwen2.5-3B, of one run each (arXiv 2606.27313, ablations).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Stage = Literal["proximal", "quantize"]
CHAIN: tuple[Stage, ...] = ("proximal", "quantize")
ALONE: tuple[Stage, ...] = ("quantize",)  # from the start's tower, with the steps of both
DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is trained.

    Attributes:
        flags: of `viq train`, for every stage of the row.
        quantize: more of them, for that stage alone.
    """

    name: str
    flags: tuple[str, ...] = ()
    quantize: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = CHAIN

    def changes(self, stage: Stage) -> tuple[str, ...]:
        """The flags that this row adds to the default's."""
        return self.flags + (self.quantize if stage == "quantize" else ())

    @property
    def changed(self) -> str:
        """All that the row changes, for a table."""
        flags = " ".join(self.flags + self.quantize)
        if self.stages == CHAIN:
            return flags
        return f"no stage proximal {flags}".strip()


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row's place in a group."""

    row: str
    title: str
    paper: float | None = None  # average of eight benchmarks, in percent


@dataclass(frozen=True, kw_only=True)
class Group:
    """A question.

    Attributes:
        note: what is to be known to read its rows.
        paper: what the paper's numbers are of; where it has none, that.
    """

    name: str
    title: str
    lines: tuple[Line, ...]
    paper: str
    note: str = ""
    later: bool = False  # not among what is run unless it is asked for


# What starts from a tower has new layers as stage proximal has; they learn at that stage's rates.
_RATES = ("--loop.optim.lr", "1e-3", "--loop.optim.lr-scale.new", "1")
_RATES += ("--loop.optim.lr-scale.projector", "0.5", "--loop.optim.lr-scale.lm", "0.5")
_NO_RECON = ("--recon-weight", "0", "--patch-weight", "0")
_SIMVQ = ("--even-weight", "0", "--codebook-size")  # evenness is a loss of FSQ's latents
_LEVELS = {
    "2k": "8 8 4 3 3",
    "4k": "8 8 4 4 4",
    "8k": "8 8 8 4 4",
    "16k": "8 8 8 6 5",
    "128k": "8 8 8 10 5 5",
}

_ALL = (
    Row(name=DEFAULT),
    # The way to codes.
    Row(name="direct", stages=ALONE, quantize=("--no-nested", *_RATES)),
    Row(name="scratch", stages=ALONE, quantize=_RATES),
    Row(name="bottleneck", flags=("--limit", "none")),
    Row(name="l2", flags=("--limit", "l2")),
    # Position among code tokens.
    Row(name="no-position", quantize=("--code-blocks.positions", "none")),
    Row(name="learned-position", quantize=("--code-blocks.positions", "learned")),
    # Losses.
    Row(name="text", flags=("--distil-weight", "0", *_NO_RECON)),
    Row(name="text-distil", flags=_NO_RECON),
    # Code heads.
    Row(name="one-head", flags=("--shape.code-heads", "1")),
    # What this project's recipe adds to the paper's.
    Row(name="no-patch", flags=("--patch-weight", "0")),
    Row(name="no-even", quantize=("--even-weight", "0")),
    Row(name="no-axes", quantize=("--no-principal-axes",)),
    # Later: widths, quantizers, targets.
    *(Row(name=f"width-{d}", flags=("--bottleneck", str(d))) for d in (64, 128, 256, 512)),
    *(
        Row(name=f"fsq-{size}", quantize=("--levels", *levels.split()))
        for size, levels in _LEVELS.items()
    ),
    Row(name="simvq-32k", quantize=(*_SIMVQ, str(2**15))),
    Row(name="simvq-128k", quantize=(*_SIMVQ, str(2**17))),
    Row(name="l2-simvq-32k", flags=("--limit", "l2"), quantize=(*_SIMVQ, str(2**15))),
    Row(
        name="direct-simvq-32k",
        stages=ALONE,
        quantize=("--limit", "none", *_SIMVQ, str(2**15), *_RATES),
    ),
    Row(name="pixels", flags=("--target", "pixels", "--patch-weight", "0")),
)
ROWS: Mapping[str, Row] = {row.name: row for row in _ALL}

_ALL_GROUPS = (
    Group(
        name="proximal",
        title="The way to codes",
        lines=(
            Line(row="direct", title="from the tower straight to FSQ"),
            Line(row="scratch", title="from the tower, FSQ inside a bottleneck"),
            Line(row="bottleneck", title="stage proximal with a bottleneck, no limit"),
            Line(row="l2", title="+ l2 limit", paper=67.9),
            Line(row=DEFAULT, title="+ l_inf limit", paper=68.7),
        ),
        paper="with FSQ; its first step, 60.9 without and 66.6 with bottleneck and l2, is SimVQ's",
        note="The first two have the steps of both stages in one, at the rates of stage proximal.",
    ),
    Group(
        name="position",
        title="Position among code tokens",
        lines=(
            Line(row="no-position", title="none", paper=65.3),
            Line(row="learned-position", title="learned grid", paper=65.7),
            Line(row=DEFAULT, title="rotary", paper=68.7),
        ),
        paper="at one resolution",
        note="The tower's own position grid stays in all three.",
    ),
    Group(
        name="losses",
        title="Losses",
        lines=(
            Line(row="text", title="text", paper=61.3),
            Line(row="text-distil", title="+ distillation", paper=66.8),
            Line(row=DEFAULT, title="+ reconstruction", paper=68.7),
        ),
        paper="the same three rows",
        note="Reconstruction is of VAE latents and, in this recipe, of each patch's pixels.",
    ),
    Group(
        name="heads",
        title="Code heads",
        lines=(
            Line(row="one-head", title="1 code a patch, 0.0625 bpp"),
            Line(row=DEFAULT, title="4 codes a patch, 0.25 bpp"),
        ),
        paper="no such row",
        note="One head is a quarter of the rate. It is as wide as one of the four, so what passes"
        " a patch is narrower, too.",
    ),
    Group(
        name="ours",
        title="What the recipe adds to the paper's",
        lines=(
            Line(row="no-patch", title="without the loss of each patch's pixels"),
            Line(row="no-even", title="without the loss that spreads latents"),
            Line(row="no-axes", title="codes begin along random axes"),
            Line(row=DEFAULT, title="all of them"),
        ),
        paper="no such rows",
        later=True,
    ),
    Group(
        name="width",
        title="Width of the bottleneck",
        lines=(
            Line(row=DEFAULT, title="32", paper=68.4),
            Line(row="width-64", title="64"),
            Line(row="width-128", title="128", paper=69.1),
            Line(row="width-256", title="256"),
            Line(row="width-512", title="512", paper=68.8),
        ),
        paper="after stage proximal, with a tower 1,536 wide; at that width 69.3",
        note="The tower is 256 wide and a code token 64.",
        later=True,
    ),
    Group(
        name="quantizer",
        title="Quantizer",
        lines=(
            *(Line(row=f"fsq-{size}", title=f"FSQ, {size}") for size in ("2k", "4k", "8k", "16k")),
            Line(row=DEFAULT, title="FSQ, 64k", paper=68.7),
            Line(row="fsq-128k", title="FSQ, 128k", paper=68.3),
            Line(row="simvq-32k", title="SimVQ, 2^15", paper=66.5),
            Line(row="simvq-128k", title="SimVQ, 2^17", paper=65.6),
            Line(row="l2-simvq-32k", title="SimVQ, 2^15, l2 limit", paper=66.6),
            Line(row="direct-simvq-32k", title="SimVQ, 2^15, from the tower", paper=60.9),
        ),
        paper="of the last two it does not say how many entries SimVQ has",
        later=True,
    ),
    Group(
        name="target",
        title="What is reconstructed",
        lines=(
            Line(row="text-distil", title="nothing", paper=66.8),
            Line(row="pixels", title="pixels, squared error", paper=67.0),
            Line(row=DEFAULT, title="VAE latents", paper=68.7),
        ),
        paper="its pixels are with LPIPS; a diffusion target has 65.8",
        later=True,
    ),
)
GROUPS: Mapping[str, Group] = {group.name: group for group in _ALL_GROUPS}


def rows_of(groups: Sequence[str]) -> list[Row]:
    """The rows of some groups, each once, the default first: all others are compared with it."""
    names = dict.fromkeys([DEFAULT, *(line.row for g in groups for line in GROUPS[g].lines)])
    return [ROWS[name] for name in names]
