"""What the two summaries of a trained fusion ask for, averaged over the patients it was not trained on."""

import os

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from lib.inputs.clinical import variables
from lib.training.folds import Fold
from lib.training.stroke_cases import Cases
from lib.training.stroke_runs import Runs


@torch.inference_mode()
def mean_attention(work: Runs, fold: Fold, setting: str, path: str | os.PathLike) -> pd.DataFrame:
    """Attention of the class tokens of `fusion`, mean over heads and held-out patients.

    Parameters
    ----------
    work : Runs
    fold : Fold
    setting : str
    path : path
        Its weights.

    Returns
    -------
    DataFrame
        fold; asks ("variable": the film's summary asks a clinical variable; "frame": the form's summary asks a
        frame); name (variable, or frame from 0); attention, which sums to 1 minus what the other modality's class
        token received; equal, what attention would be if all tokens received the same. A variable is averaged over
        the patients who have it.
    """
    model, held_out = work.untrained("fusion", fold, setting)
    model.load_state_dict(load_file(path))
    model.eval()
    seen: dict[str, list[np.ndarray]] = {"imaging_asks": [], "clinical_asks": []}
    known = []
    for *inputs, _ in DataLoader(Cases(held_out), 8):
        found = model(*inputs, attention=True).attention
        for name, parts in seen.items():
            parts.append(found[name][:, :, 0, 1:].mean(1).numpy())  # the asking class token; heads averaged
        known.append(~inputs[3].numpy())
    mean = {name: np.concatenate(parts) for name, parts in seen.items()}
    there = np.concatenate(known)
    to_variables = np.where(there, mean["imaging_asks"], np.nan)
    rows = [
        {
            "asks": "variable",
            "name": name,
            "attention": np.nanmean(column),
            "equal": np.mean(1 / (1 + there.sum(1))),
        }
        for name, column in zip(variables(setting), to_variables.T, strict=True)
        if not np.isnan(column).all()
    ]
    frames = mean["clinical_asks"].mean(0)
    rows += [
        {"asks": "frame", "name": str(frame), "attention": value, "equal": 1 / (1 + len(frames))}
        for frame, value in enumerate(frames)
    ]
    return pd.DataFrame(rows).assign(fold=fold.name)
