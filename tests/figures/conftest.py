"""No screen, and no figure left open."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from lib.figures import style


@pytest.fixture
def ax():
    """Axes of a fresh figure in the book's look."""
    with matplotlib.rc_context(style.RC):
        yield plt.subplots()[1]
    plt.close("all")


@pytest.fixture
def words():
    """Function: every text drawn on axes, its key, ticks and notes included."""

    def found(ax) -> str:
        ax.figure.canvas.draw()
        return "\n".join(text.get_text() for text in ax.findobj(matplotlib.text.Text))

    return found
