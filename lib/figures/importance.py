"""Which features a linear model uses, how firmly, and how often it would choose them again."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.figures import style

_RADIOMIC = re.compile(
    r"^(?:(?P<modality>.+?)[_:./ ]+)?"
    r"(?P<filter>original|log-sigma-(?P<mm>\d+)-(?P<tenth>\d+)-mm-3D|wavelet2?-(?P<bands>[LH]{2,3})"
    r"|squareroot|square|logarithm|exponential|gradient|lbp-[23]D(?:-\w+?)?)"
    r"_(?P<family>shape2D|shape|firstorder|glcm|glrlm|glszm|gldm|ngtdm)_(?P<feature>\w+)$"
)
_FAMILY = {"shape": "shape", "shape2D": "2D shape", "firstorder": "first-order"}
PART = 0.78  # of the width, for the coefficients
_SHORT = {"Imc1", "Imc2", "Idm", "Idmn", "Id", "Idn", "MCC"}


def readable(feature: str) -> str:
    """A PyRadiomics name in words: "log-sigma-2-0-mm-3D_glcm_JointEntropy" becomes "LoG 2 mm · GLCM joint entropy".

    Filters are kept, a modality before the name too ("ct_original_..." becomes "CT · ..."); other names are returned as
    they are.
    """
    if (found := _RADIOMIC.match(feature)) is None:
        return feature
    parts = []
    if modality := found["modality"]:
        parts.append(modality.upper() if len(modality) <= 3 else modality)
    if found["mm"]:
        parts.append(f"LoG {float(found['mm'] + '.' + found['tenth']):g} mm")
    elif found["bands"]:
        parts.append(f"wavelet {found['bands']}")
    elif found["filter"] != "original":
        parts.append(found["filter"].replace("squareroot", "square root").replace("lbp", "LBP"))
    family = _FAMILY.get(found["family"], found["family"].upper())
    return " · ".join([*parts, f"{family} {_words(found['feature'])}"])


def _words(name: str) -> str:
    if name in _SHORT:
        return name.upper()
    if percentile := re.fullmatch(r"(\d+)Percentile", name):
        return f"{percentile[1]}th percentile"
    parts = re.findall(r"\d+D|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return " ".join(part if part.isupper() or part[0].isdigit() else part.lower() for part in parts)


def importance(
    ax: Axes,
    table: pd.DataFrame,
    top: int = 15,
    outcome: str = "outcome",
    spread: str = "95 % of resamples",
) -> Axes:
    """Coefficients with their spread, largest first, and at the right how often each feature is selected.

    Parameters
    ----------
    ax : Axes
        About 0.3 inch of height a feature.
    table : DataFrame
        As `lib.statistics.selection_stability.Stability.features`: feature, mean (of the coefficient per standard
        deviation), low, high, frequency (0 to 1); optional: coefficient (of the fit on all patients, an open diamond).
    top : int
        Features drawn: those with the largest absolute mean.
    outcome : str
        What a positive coefficient makes more likely.
    spread : str
        What low and high are.

    Returns
    -------
    Axes
        The coefficients' own; the frequencies are its child `ax.child_axes[0]`.

    Raises
    ------
    ValueError
        A column is missing, a feature is twice, a value is not finite, or no feature has a coefficient other than 0.
    """
    columns = ["mean", "low", "high", "frequency"]
    if missing := [column for column in ("feature", *columns) if column not in table]:
        raise ValueError(f"the table of importance lacks {missing}; it has {list(table.columns)}")
    if table["feature"].duplicated().any():
        raise ValueError(f"feature {table['feature'][table['feature'].duplicated()].iloc[0]} is twice")
    if not np.isfinite(table[columns].to_numpy(float)).all():
        raise ValueError("a mean, low, high or frequency of the table of importance is not finite")
    used = table[(table["mean"] != 0) | (table["frequency"] > 0)]
    if used.empty:
        raise ValueError("no feature was selected, so there is no importance to draw")
    size = used["mean"].abs()
    shown = used.assign(size=size).sort_values(["size", "feature"], ascending=[False, True]).head(top)
    ax.axvline(0, color="0.6", lw=0.9, ls="--", zorder=0)
    low, high = min(shown["low"].min(), 0), max(shown["high"].max(), 0)
    if "coefficient" in shown:
        low, high = min(low, shown["coefficient"].min()), max(high, shown["coefficient"].max())
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    # the frequencies stand in the right part of the same frame, so that a layout needs no second look at them
    share = ax.inset_axes([PART + 0.03, 0, 1 - PART - 0.03, 1], sharey=ax)
    for row, each in enumerate(shown.itertuples()):
        colour = style.PALETTE[1] if each.mean > 0 else style.PALETTE[0]
        ax.plot([each.low, each.high], [row, row], color=colour, lw=1.6, solid_capstyle="butt")
        ax.plot(each.mean, row, "o", ms=5.5, color=colour)
        if "coefficient" in shown:
            ax.plot(each.coefficient, row, "D", ms=5, mfc="none", mec="0.15", mew=0.9)
        share.barh(row, each.frequency, 0.6, color=colour, alpha=0.75)
        share.text(
            each.frequency + 0.04, row, f"{each.frequency:.0%}".replace("%", " %"), va="center", size=7.5
        )
    names = [_broken(readable(name)) for name in shown["feature"]]
    label = f"per SD (above 0: {outcome} more likely)"
    ax.set(yticks=range(len(shown)), yticklabels=names, ylim=(len(shown) - 0.4, -0.6))
    ax.set(xlim=(low, low + (high - low) / PART))
    ax.set_xticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high])
    ax.set_xlabel(label, x=PART / 2)
    ax.spines["bottom"].set_bounds(low, high)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    share.set(xlim=(0, 1.5), xticks=[0, 1], xticklabels=["0", "100 %"], xlabel="selected")
    share.tick_params(axis="y", length=0, labelleft=False)
    share.spines["bottom"].set_bounds(0, 1)
    share.xaxis.label.set_x(1 / 3)
    share.spines["left"].set_visible(False)
    ax.plot([], [], "o-", color="0.4", ms=5.5, lw=1.6, label=f"mean, and {spread}")
    if "coefficient" in shown:
        ax.plot([], [], "D", ms=5, mfc="none", mec="0.15", mew=0.9, label="fitted on all patients")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return ax


def _broken(name: str) -> str:
    """A long name on two lines, after a dot or near its middle."""
    if len(name) <= 38:
        return name
    dots, spaces = ([m.end() for m in re.finditer(gap, name)] for gap in (" · ", " "))
    longer = lambda end: max(end, len(name) - end)  # noqa: E731
    places = [end for end in dots if longer(end) <= 42] or spaces
    if not places:
        return name
    place = min(places, key=longer)
    return f"{name[:place].rstrip()}\n{name[place:]}"
