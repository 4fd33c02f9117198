"""FSQ forward and backward against vector-quantize-pytorch's.

python benchmarks/fsq.py
"""

import torch
import vector_quantize_pytorch as peers
from report import arguments, medians, report

from viq.model.quantizers import CODEBOOKS, FSQ


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--tokens", type=int, default=4 * 4096, help="code tokens a call")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name, levels in CODEBOOKS.items():
        ours, peer = FSQ(levels), peers.FSQ(list(levels))
        latents = torch.randn(1, args.tokens, len(levels), requires_grad=True)

        def run_ours(ours: FSQ = ours, latents: torch.Tensor = latents) -> None:
            ours(latents).values.sum().backward()

        def run_peer(peer: peers.FSQ = peer, latents: torch.Tensor = latents) -> None:
            peer(latents)[0].sum().backward()

        def many(run, times: int = 20):
            return lambda: [run() for _ in range(times)]

        seconds = medians({"ours": many(run_ours), "peer": many(run_peer)}, args.repeats)
        rows.append(
            {
                "codebook": name,
                "viq ms": seconds["ours"] * 50,
                "vector-quantize-pytorch ms": seconds["peer"] * 50,
                "times as fast": seconds["peer"] / seconds["ours"],
            }
        )
    report(f"FSQ forward + backward, {args.tokens} tokens, float32", rows, args)


if __name__ == "__main__":
    main()
