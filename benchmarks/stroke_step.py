"""One training step of StrokeNet on 128 x 128 x 16 voxels and 32 frames, beside a straightforward port, in one run.

    .venv/bin/python -m benchmarks.stroke_step
    .venv/bin/python -m benchmarks.stroke_step --full      # also one step at 512 x 512 x 16: minutes, up to 12 GB

One thread, one patient of random numbers; forward, L2, backward and Adam, without dropout, so that all schemes but the
last compute the same. Each has its own process, so that its peak memory is its own. Seconds are the processor's, of the
process; the least of the repeats counts. Needs 2.5 GB.

- port: the CNN called 32 times, once a frame, everything kept, contiguous (`tests/stroke/plain_stroke.py`)
- kept: all frames as one batch, channels last
- described: two frames at once, computed again for the backward pass, which is one forward pass more
- described, bf16: its convolutions in bfloat16

Bars, to the port: 0.7 of the time and 0.5 of the peak memory, for `described` and for `described, bf16`; the full size
below 12 GB.
"""

import argparse
import json
import os
import time
from pathlib import Path

from benchmarks._process import in_its_own_process, megabytes, of_tests

SCHEMES = {
    "port": {},
    "kept": {},
    "described": {"frames_at_once": 2},
    "described, bf16": {"frames_at_once": 2, "bf16": True},
}
SIZES = {"128": (128, 128, 16), "full": (512, 512, 16)}
BARS = {"time": 0.7, "peak": 0.5}
FULL_MB = 12_000


def measured(size: str, scheme: str, repeats: int) -> dict:
    """Run in a process of its own: least seconds of a step and of its forward part, and peak memory."""
    # torch is imported here and not above: a child must not inherit the parent's peak
    import torch

    from lib.stroke.model import StrokeNet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = StrokeNet(SIZES[size], dropout=0.0, **SCHEMES[scheme]).train()
    port = of_tests("stroke/plain_stroke.py").Plain(
        dict(model.named_parameters()) | dict(model.named_buffers())
    )
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    series = torch.randn(1, model.frames, *model.shape)
    clinical = torch.rand(1, 4), torch.tensor([[1, 0, 1, 0, 2]])

    def step() -> tuple[float, float, float]:
        adam.zero_grad()
        start = time.process_time()
        logit = port(series, *clinical) if scheme == "port" else model(series, *clinical).logit
        middle = time.process_time()
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.ones(1))
        (bce + model.penalty()).backward()
        adam.step()
        return time.process_time() - start, middle - start, logit.item()

    taken = [step() for _ in range(repeats)]
    return {
        "size": size,
        "scheme": scheme,
        "seconds": round(min(whole for whole, _, _ in taken), 2),
        "slowest_s": round(max(whole for whole, _, _ in taken), 2),
        "forward_s": round(min(forward for _, forward, _ in taken), 2),
        "peak_mb": round(megabytes()),
        "logit": round(taken[0][2], 6),  # before anything was learned
        "logit_later": round(taken[-1][2], 6),
        "torch": torch.__version__,
    }


def verdicts(table) -> list[str]:
    lines = []
    for row in table[table["scheme"].str.startswith("described")].to_dict("records"):
        if row["size"] == "full":
            held = "held" if row["peak_mb"] <= FULL_MB else "MISSED"
            lines.append(f"{row['scheme']} at full size: {row['peak_mb']} MB, bar {FULL_MB} MB: {held}")
            continue
        for what, bar in BARS.items():
            ratio = row[f"{what}_of_port"]
            held = "held" if ratio <= bar else "MISSED"
            lines.append(f"{row['scheme']} at 128: {what} {ratio:.3f} of the port, bar {bar}: {held}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="one step at 512 x 512 x 16 too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stroke_step.csv")
    parser.add_argument("--size", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--scheme", choices=SCHEMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scheme:
        print(json.dumps(measured(options.size, options.scheme, options.repeats)))
        return

    load = round(os.getloadavg()[0], 2)
    runs = [("128", scheme, options.repeats) for scheme in SCHEMES]
    runs += [("full", "described", 1)] * options.full
    rows = []
    for size, scheme, repeats in runs:
        asked = ("--size", size, "--scheme", scheme, "--repeats", repeats)
        rows.append(in_its_own_process("stroke_step", *asked, OMP_NUM_THREADS="1"))

    import pandas as pd

    from lib.files import write_csv
    from lib.stage import processor

    table = pd.DataFrame(rows)
    port, small = table.iloc[0], table["size"] == "128"
    for what, column in {"time": "seconds", "peak": "peak_mb"}.items():
        table[f"{what}_of_port"] = (table[column] / port[column]).round(3).where(small)
    table = table.assign(load_before=load, cpu=processor())
    write_csv(table, options.out)
    print(table.drop(columns=["torch", "cpu", "load_before"]).to_string(index=False, na_rep=""))
    print(f"1 thread, torch {table.torch[0]}, {table.cpu[0]}, load before {load}")
    print("\n".join(verdicts(table)))


if __name__ == "__main__":
    main()
