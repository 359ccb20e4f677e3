"""Kaplan-Meier curves of risk groups as a small table without a row per patient: what a page draws, or a copy may hold."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.statistics.classification import NotComputable
from lib.statistics.metrics_table import RISK_CUTS, risk_group
from lib.statistics.survival import HeldOut, kaplan_meier

COLUMNS = ["model", "cut", "group", "time", "at_risk", "survival", "low", "high"]


def group_curves(time: np.ndarray, event: np.ndarray, group: np.ndarray) -> pd.DataFrame:
    """Curves of groups (n,): group, time (months), at_risk, survival and its 95 % band low to high, four digits.

    Rows are the start, each time at which somebody died (`at_risk` is just before it), and the last look.
    """
    parts = []
    for side in sorted(set(group)):
        curve = kaplan_meier(time[group == side], event[group == side])
        steps = curve[(curve["events"] > 0) | curve.index.isin([0, len(curve) - 1])]
        parts.append(steps.assign(group=side))
    found = pd.concat(parts)[COLUMNS[2:]].round({"time": 2, "survival": 4, "low": 4, "high": 4})
    return found.reset_index(drop=True)


def risk_curves(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """Curves of high and low risk of every model under every rule of `RISK_CUTS`, columns `COLUMNS`; a cut that makes no two
    groups has no rows.
    """
    parts = [pd.DataFrame(columns=COLUMNS)]
    for name, model in models.items():
        for rule in RISK_CUTS:
            try:
                sides = risk_group(model, rule)
            except NotComputable:
                continue
            parts.append(group_curves(model.time, model.event, sides).assign(model=name, cut=rule))
    return pd.concat(parts[1:] or parts, ignore_index=True)[COLUMNS]
