"""Go on with a training that was killed: what its next epoch depends on, in one file of plain tensors."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from lib.training.weight_files import write_weights


def save(path: str | os.PathLike, key: str, model: torch.nn.Module, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically, at the end of an epoch.

    Parameters
    ----------
    path : path
    key : str
        Names the run; a checkpoint of another is not taken up.
    model : Module
    state : dict
        adam, schedule : the optimiser and its schedule
        order : torch.Generator, tiles : numpy Generator
            What draws cases and tiles.
        history : list of dict, best : (float, int, dict of Tensor) or None
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, values in state["adam"].state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in values.items()}
    tensors |= {"random.torch": torch.get_rng_state(), "random.order": state["order"].get_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    best = state["best"]
    tensors |= {f"best.{name}": value for name, value in (best[2] if best else {}).items()}
    about = {
        "key": key,
        "history": state["history"],
        "best": best[:2] if best else None,
        "schedule": {k: v for k, v in state["schedule"].state_dict().items() if not k.startswith("_get")},
        "rates": [group["lr"] for group in state["adam"].param_groups],
        "tiles": state["tiles"].bit_generator.state,
    }
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_weights(plain, path, {"about": json.dumps(about)})


def load(path: str | os.PathLike, key: str) -> dict[str, Any] | None:
    """A checkpoint of this very run: `about` and its tensors by name; None where there is none that can be used."""
    if not Path(path).is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("key") != key:
                return None
            return {"about": about, **{name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    except (SafetensorError, ValueError):  # cut short: begin again
        return None


def part_of(found: dict[str, Any], name: str) -> dict[str, torch.Tensor]:
    """The tensors below a name: "model", "best"."""
    return {full[len(name) + 1 :]: value for full, value in found.items() if full.startswith(f"{name}.")}


def restore_optimiser(found: dict[str, Any], adam: torch.optim.Optimizer, schedule: Any) -> None:
    """Put moments, steps and learning rate back."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in part_of(found, "adam").items():
        number, _, what = name.partition(".")
        moments.setdefault(int(number), {})[what] = value
    adam.load_state_dict({"state": moments, "param_groups": adam.state_dict()["param_groups"]})
    schedule.load_state_dict(found["about"]["schedule"])
    for group, rate in zip(adam.param_groups, found["about"]["rates"], strict=True):
        group["lr"] = rate


def restore_random(found: dict[str, Any], order: torch.Generator, tiles: np.random.Generator) -> None:
    """Put every source of random numbers back to where the saved epoch left it."""
    torch.set_rng_state(found["random.torch"])
    if "random.cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["random.cuda"])
    order.set_state(found["random.order"])
    tiles.bit_generator.state = found["about"]["tiles"]
