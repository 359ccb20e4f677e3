import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.figures import style
from lib.figures.ranks import critical_difference
from lib.statistics.over_cohorts import average_ranks, cliques


def test_dots_stand_at_the_ranks_and_bars_join_the_cliques(tmp_path):
    random = np.random.default_rng(2)
    values = pd.DataFrame(random.normal([0.7, 0.69, 0.65, 0.6, 0.5], 0.02, (10, 5)), columns=list("edcba"))
    ranks = average_ranks(values)
    style.use()
    figure, ax = plt.subplots(figsize=(5, 2.6))
    critical_difference(ax, ranks, marked=("c",))
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == ranks.ranks.tolist()
    assert [line.get_color() == style.CANCER for line in dots] == [name == "c" for name in ranks.ranks.index]
    bars = [tuple(line.get_ydata()) for line in ax.lines if line.get_linewidth() == 2.5]
    assert bars == cliques(ranks)
    assert len(bars) > 1
    figure.savefig(tmp_path / "ranks.png", dpi=120)
    plt.close(figure)
