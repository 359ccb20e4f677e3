"""One stage-II epoch of SpaCRD, 2,868 spots x 3,000 genes, in ours and in a straightforward way, in one run.

    .venv/bin/python -m benchmarks.spacrd_epoch

Forward, losses, backward, Adam's step. Random numbers in sections as large as seven of HER2ST's: speed does not depend
on what is in them. Each scheme has its own process, so that its peak memory is its own; the median epoch counts.

- straightforward: the released scheme as one would write it down; every spot's seven neighbours are stored and
  encoded again for every spot, all seven ask, a DataLoader collates spot by spot (`tests/spacrd/released.py`)
- released: the same numbers (`variant="released"`, batches of spots at random), each spot of a batch once through the
  first layer, each copy of it through the others, which draw their dropout for it alone
- described: the default, batches of compact patches

Bars, against straightforward: described at most 0.15 of the time, released at most 0.5, peak memory at most half.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from benchmarks._process import in_its_own_process, megabytes, of_tests

SECTIONS = (295, 176, 306, 587, 691, 467, 346)
SCHEMES = ("straightforward", "released", "described")
TIME_BARS = {"released": 0.5, "described": 0.15}
MEMORY_BAR = 0.5
WARM_UP = 3  # batches


def measured(scheme: str, options: argparse.Namespace) -> dict:
    """Run in a process of its own: median seconds of an epoch, and peak memory."""
    # torch is imported here and not above: a child must not inherit the parent's peak
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from lib.spacrd.features import Batches, Spots, labelled_patches, nearest
    from lib.spacrd.model import SpaCRD, fusion_losses

    slow = of_tests("spacrd/released.py")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()  # the first step imports a good deal
    imports = megabytes()
    random = np.random.default_rng(0)
    parts = []
    for number, n in enumerate(options.sections):
        xy = np.column_stack(np.divmod(np.arange(n), round(n**0.5))).astype(float)
        image, genes = (torch.rand(n, d) for d in (options.image, options.genes))
        labels = torch.as_tensor(random.integers(0, 2, n), dtype=torch.float32)
        name = np.full(n, str(number))
        parts.append(Spots(image, genes, labels, torch.as_tensor(nearest(xy, 7)), xy, name))
    spots = Spots.stack(parts)
    del parts

    if scheme == "straightforward":
        model = slow.SlowSpaCRD(options.image, options.genes, axis=1)
        around = spots.neighbours
        stored = TensorDataset(spots.image[around], spots.genes[around], spots.labels)
        batches = DataLoader(stored, batch_size=options.batch, shuffle=True)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-5)

        def loss_of(batch):
            image, genes, labels = batch
            _, fused, rebuilt, mu, logvar = model(image, genes)
            own = model.centres[labels.long()]
            divergence = 0.5 * (logvar.exp() + (mu - own) ** 2 - logvar - 1).sum(1).mean()
            apart = torch.norm(model.centres[0] - model.centres[1])
            return torch.nn.functional.mse_loss(rebuilt, fused) + 0.5 * divergence - 0.1 * apart, 7 * len(
                labels
            )

    else:
        model = SpaCRD(options.image, options.genes, variant=scheme)
        patch = 1 if scheme == "released" else options.batch
        batches = Batches(labelled_patches(spots, patch), options.batch, 0, spots.batch)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)  # as in lib.spacrd.train
        separation = 0.1 if scheme == "released" else 0.0

        def loss_of(batch):
            output = model(batch["image"], batch["genes"], batch["neighbours"])
            terms = fusion_losses(output, batch["labels"], model.class_centres)
            loss = terms["reconstruction"] + 0.5 * terms["category"] + separation * terms["separation"]
            return loss, len(batch["genes"])

    def epoch(most: int | None = None) -> tuple[int, int]:
        """Steps taken, and spots that went through the encoders."""
        encoded = 0
        for step, batch in enumerate(batches, 1):
            loss, rows = loss_of(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            encoded += rows
            if step == most:
                break
        return step, encoded

    model.train()
    epoch(WARM_UP)
    times = []
    for _ in range(options.epochs):
        start = time.perf_counter()
        steps, encoded = epoch()
        times.append(time.perf_counter() - start)
    return {
        "scheme": scheme,
        "seconds": round(float(np.median(times)), 3),
        "slowest_s": round(max(times), 3),
        "steps": steps,
        "encoded": encoded,
        "peak_mb": round(megabytes()),
        "peak_over_imports_mb": round(megabytes() - imports),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def verdicts(table) -> list[str]:
    lines = []
    for row in table.itertuples():
        if row.scheme in TIME_BARS:
            for what, value, bar in (
                ("time", row.time_ratio, TIME_BARS[row.scheme]),
                ("peak memory", row.peak_ratio, MEMORY_BAR),
            ):
                held = "held" if value <= bar else "MISSED"
                lines.append(f"{row.scheme}: {what} {value:.3f} of straightforward, bar {bar}: {held}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", type=int, nargs="+", default=SECTIONS, help="spots of each section")
    parser.add_argument("--genes", type=int, default=3000)
    parser.add_argument("--image", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", 2)))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "spacrd_epoch.csv")
    parser.add_argument("--scheme", choices=SCHEMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scheme:
        print(json.dumps(measured(options.scheme, options)))
        return

    load = round(os.getloadavg()[0], 2)
    rows = [in_its_own_process("spacrd_epoch", *sys.argv[1:], "--scheme", scheme) for scheme in SCHEMES]

    import pandas as pd

    from lib.files import write_csv
    from lib.stage import processor

    table = pd.DataFrame(rows)
    pairs = {"time_ratio": "seconds", "peak_ratio": "peak_mb", "over_imports_ratio": "peak_over_imports_mb"}
    for ratio, column in pairs.items():
        table[ratio] = (table[column] / table[column].iloc[0]).round(3)
    table = table.assign(load_before=load, cpu=processor())
    write_csv(table, options.out)
    print(table.drop(columns=["torch", "cpu", "threads", "load_before"]).to_string(index=False))
    print(f"{table.threads[0]} threads, torch {table.torch[0]}, {table.cpu[0]}, load before {load}")
    print("\n".join(verdicts(table)))


if __name__ == "__main__":
    main()
