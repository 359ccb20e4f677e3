"""Settings and seeds of a network side by side, beside one network after another: processor seconds of an epoch.

    .venv/bin/python benchmarks/fusion_batching.py

Made-up patients in the sizes of BLCA (nine modalities, 2,388 columns, 298 patients), eight settings, one thread. "loop" is
a network after the other with torch's AdamW. Both give the same weights (tests/fusion/test_train.py). No bar.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.files import write_csv
from lib.fusion.heads import HEADS
from lib.fusion.model import Fusion
from lib.fusion.tokens import Inputs
from lib.fusion.train import Batch, Problem, descend, settings_of
from lib.stage import processor
from lib.training.discrete_time import survival_nll

COLUMNS = (4, 82, 305, 493, 415, 134, 421, 163, 371)
WIDTH, BINS = 16, 4


def made_up(patients: int) -> Inputs:
    """Normal numbers and exponential times."""
    random = np.random.default_rng(1)
    columns = {
        f"modality_{k}": torch.from_numpy(random.normal(size=(patients, size)).astype(np.float32))
        for k, size in enumerate(COLUMNS)
    }
    time, event = random.exponential(30, patients), random.random(patients) < 0.45
    parts = [torch.from_numpy(part.astype(np.float32)) for part in (np.zeros(patients), time, event)]
    present = torch.ones(patients, len(COLUMNS), dtype=torch.bool)
    return Inputs([f"p{row}" for row in range(patients)], columns, present, *parts)


def batched(make, problem: Problem, members, epochs: int) -> None:
    batch = Batch(make, [member.seed for member in members])
    descend(batch, members, problem.inputs, problem.outcome, epochs, lambda rows: [0.5] * len(rows))


def looped(make, problem: Problem, members, epochs: int) -> None:
    for member in members:
        torch.manual_seed(member.seed)
        network, draw = make().train(), torch.Generator().manual_seed(member.seed)
        rates = {"lr": member.learning_rate, "weight_decay": member.weight_decay}
        adam, stay = torch.optim.AdamW(network.parameters(), **rates), 1 - member.dropout
        inputs, outcome = problem.inputs, problem.outcome
        for _ in range(epochs):
            kept = (torch.rand(*inputs.present.shape, WIDTH, generator=draw) < stay) / stay
            said = network(inputs.columns, inputs.present, inputs.offset, kept)
            adam.zero_grad()
            survival_nll(said.logits, outcome.bin, outcome.event).mean().backward()
            adam.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", nargs="+", default=["concat", "self-attention", "rcsa", "mcat"])
    parser.add_argument("--patients", type=int, default=298)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fusion_batching.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load, rows = round(os.getloadavg()[0], 2), []
    problem, members = Problem.of(made_up(options.patients), BINS), settings_of(8, 1)
    sizes = {name: values.shape[1] for name, values in problem.inputs.columns.items()}
    for name in options.heads:
        seconds = {"batched": [], "loop": []}
        for _ in range(options.repeats):  # in turn, so that a busy minute hits both
            for how, train in (("batched", batched), ("loop", looped)):
                began = time.process_time()
                train(
                    lambda name=name: Fusion(sizes, HEADS[name], WIDTH, BINS, problem.start),
                    problem,
                    members,
                    options.epochs,
                )
                seconds[how].append((time.process_time() - began) / options.epochs)
        best = {how: min(values) for how, values in seconds.items()}
        ratio = best["batched"] / best["loop"]
        rows.append(
            {"head": name, **{how: round(value, 4) for how, value in best.items()}, "ratio": round(ratio, 2)}
        )
    table = pd.DataFrame(rows).assign(
        patients=options.patients, networks=len(members), load_before=load, cpu=processor()
    )
    write_csv(table, options.out)
    print(table.to_string(index=False))
    print("processor seconds of an epoch of all networks, the least of the repeats; 1 thread")


if __name__ == "__main__":
    main()
