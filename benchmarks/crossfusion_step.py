"""One training step of CrossFusion, forward and backward, beside the released scheme, in one run.

    .venv/bin/python -m benchmarks.crossfusion_step

One thread, random features 1,024 wide: the mean slide of the paper (13,496, 3,449, 895 tiles at 20x, 10x, 5x), and
4,096, 1,047, 272. Each scheme has its own process, so that its peak memory is its own. Seconds are the processor's, of
the process; the least of the repeats counts. Needs 7 GB.

- shipped: the released scheme as one would write it down, attention dropout 0.2 on single weights (`shipped_scheme`)
- released: `variant="released"`, the same dropout; only the class token of the last layer, kernels summed before they
  are applied
- no dropout: without attention dropout
- described: the default, attention dropout 0.2 on keys
- described, bf16: its matrix products in bfloat16; how far logits move in evaluation is shown

Bars, described against `released`, the same model with the released dropout: at the mean slide 0.5 of the time and 0.3 of
the peak memory, at 4,096 0.85 of the time. The ratios to `shipped`, which lacks our other savings, stand beside them.
"""

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path

from benchmarks._process import in_its_own_process, megabytes, of_tests

SIZES = {"mean slide": (895, 3_449, 13_496), "4,096": (272, 1_047, 4_096)}
SCHEMES = {
    "shipped": {},
    "released": {"variant": "released"},
    "no dropout": {"attention_dropout": 0.0},
    "described": {},
    "described, bf16": {"bf16": True},
}
WIDTH = 1_024
BARS = {("mean slide", "time"): 0.5, ("mean slide", "peak"): 0.3, ("4,096", "time"): 0.85}


def shipped_scheme() -> type:
    """The plain model of the tests, with the library's functions and the released dropout: 0.3, and 0.2 on the weights of
    self-attention.
    """
    import torch.nn.functional as F

    class Shipped(of_tests("crossfusion/plain_crossfusion.py").Plain):
        def linear(self, x, name):
            return F.linear(x, *self.get(name))

        def norm(self, x, name):
            return F.layer_norm(x, x.shape[1:], *self.get(name))

        def gelu(self, x):
            return F.gelu(x)

        def dropped(self, x):
            return F.dropout(x, 0.3)

        def channels_dropped(self, picture):
            return F.dropout2d(picture, 0.3)

        def attend(self, q, k, v):
            return F.scaled_dot_product_attention(q[None], k[None], v[None], dropout_p=0.2)[0]

        def cross(self, q, k, v):
            return F.scaled_dot_product_attention(q[None], k[None], v[None])[0]

    return Shipped


def measured(size: str, scheme: str, repeats: int) -> dict:
    """Run in a process of its own: least seconds of a step and of its forward part, and peak memory."""
    # torch is imported here and not above: a child must not inherit the parent's peak
    import torch

    from lib.crossfusion.model import CrossFusion

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = CrossFusion(WIDTH, **SCHEMES[scheme]).train()
    shipped = shipped_scheme()(model.named_parameters())

    def bags(sizes: tuple[int, ...]) -> list[torch.Tensor]:
        return [torch.randn(1, n, WIDTH) for n in sizes]

    def step(x: list[torch.Tensor]) -> tuple[float, float]:
        model.zero_grad()
        start = time.process_time()
        logits = shipped(*(bag[0] for bag in x)) if scheme == "shipped" else model(*x).logits
        middle = time.process_time()
        logits.sum().backward()
        return time.process_time() - start, middle - start

    for _ in range(2):
        step(bags((68, 262, 1_024)))
    x = bags(SIZES[size])
    taken = [step(x) for _ in range(repeats)]
    row = {
        "size": size,
        "scheme": scheme,
        "seconds": round(min(whole for whole, _ in taken), 3),
        "slowest_s": round(max(whole for whole, _ in taken), 3),
        "forward_s": round(min(forward for _, forward in taken), 3),
        "peak_mb": round(megabytes()),
        "torch": torch.__version__,
    }
    if model.bf16:
        with torch.inference_mode():
            low = model.eval()(*x).logits
            model.bf16 = False
            exact = model(*x).logits
        row |= {
            "logits_moved": round((low - exact).abs().max().item(), 5),
            "largest_logit": round(exact.abs().max().item(), 3),
        }
    return row


def verdicts(table) -> list[str]:
    described = table[table.scheme == "described"].set_index("size")
    lines = []
    for (size, what), bar in BARS.items():
        if size in described.index:
            ratio, looser = (described.loc[size, f"{what}_of_{base}"] for base in ("released", "shipped"))
            held = "held" if ratio <= bar else "MISSED"
            lines.append(
                f"described at {size}: {what} {ratio:.3f} of released, bar {bar}: {held} ({looser:.3f} of shipped)"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "crossfusion_step.csv"
    )
    parser.add_argument("--size", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--scheme", choices=SCHEMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scheme:
        print(json.dumps(measured(options.size, options.scheme, options.repeats)))
        return

    load = round(os.getloadavg()[0], 2)
    rows = []
    for size, scheme in product(options.sizes, SCHEMES):
        asked = ("--size", size, "--scheme", scheme, "--repeats", options.repeats)
        rows.append(in_its_own_process("crossfusion_step", *asked, OMP_NUM_THREADS="1"))

    import pandas as pd

    from lib.files import write_csv
    from lib.stage import processor

    table = pd.DataFrame(rows)
    for base in ("shipped", "released"):
        other = table[table.scheme == base].set_index("size")
        for what, column in {"time": "seconds", "peak": "peak_mb"}.items():
            table[f"{what}_of_{base}"] = (table[column] / table["size"].map(other[column])).round(3)
    table = table.assign(load_before=load, cpu=processor())
    write_csv(table, options.out)
    print(table.drop(columns=["torch", "cpu", "load_before"]).to_string(index=False, na_rep=""))
    print(f"1 thread, torch {table.torch[0]}, {table.cpu[0]}, load before {load}")
    print("\n".join(verdicts(table)))


if __name__ == "__main__":
    main()
