"""How trainings went."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures.survival import by_epoch


def epoch_panels(history: pd.DataFrame, value: str, label: str, columns: int = 4) -> Figure:
    """One panel a setting and model: `value` of each fold by epoch, their mean, a ring where an epoch was kept.

    Parameters
    ----------
    history : DataFrame
        setting, model, fold, epoch, chosen and `value`, of one seed.
    value, label : str
        Column drawn, and its name on the y axis.
    """
    panels = list(history.groupby(["setting", "model"], sort=False))
    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(2.9 * columns, 2.5 * lines), squeeze=False, sharey=True
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, ((setting, model), rows) in zip(axes.flat, panels, strict=False):
        kept = rows[rows["chosen"].astype(bool)].set_index("fold")["epoch"].to_dict()
        by_epoch(ax, rows, kept, value=value)
        ax.get_legend().remove()
        ax.set_ylabel(label)
        ax.set_title(f"{model}, {setting}", fontsize=8)
    return figure


def one_training(axes: Sequence[Axes], history: pd.DataFrame, curves: dict[str, str]) -> None:
    """A single training: a panel a column of its history, against the epoch.

    Parameters
    ----------
    axes : sequence of Axes
    history : DataFrame
        epoch, and the columns of `curves`.
    curves : dict of str to str
        Column -> its name on the y axis.
    """
    for ax, (column, label) in zip(axes, curves.items(), strict=True):
        sns.lineplot(history, x="epoch", y=column, marker="o", ax=ax)
        ax.set_ylabel(label)
        ax.xaxis.get_major_locator().set_params(integer=True)
