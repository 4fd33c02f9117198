"""How many codes come out otherwise in bfloat16 than in float32, and how far they move.

python benchmarks/dtype.py PICTURE_OR_FOLDER...
"""

from pathlib import Path

import numpy as np
from report import arguments, report

import viq
from viq.model.quantizers import FSQ


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    files = [f for p in args.paths for f in (sorted(p.iterdir()) if p.is_dir() else [p])]
    exact = viq.load(args.model).encode(files)
    rough = viq.load(args.model, dtype="bfloat16").encode(files)
    one, other = (np.concatenate([c.values for c in codes]) for codes in (exact, rough))
    levels = exact[0].levels
    basis = np.cumprod([1, *levels[:-1]])
    digits = [(values[..., None].astype(int) // basis) % levels for values in (one, other)]
    distance = np.abs(digits[0] - digits[1])
    rows = [
        {
            "pictures": len(files),
            "codes": one.size,
            "codes that differ": f"{np.mean(one != other):.2%}",
            "digits that differ": f"{np.mean(distance > 0):.2%}",
            "furthest digit": int(distance.max()),
            "codebook": FSQ(levels).codebook_size,
        }
    ]
    report(f"bfloat16 against float32, {args.model}", rows, args)


if __name__ == "__main__":
    main()
