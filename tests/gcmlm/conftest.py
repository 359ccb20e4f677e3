"""Patients of whom clinic, CT and slide each say something of their own."""

import numpy as np
import pandas as pd
import pytest

SIZES = {"clinical": 4, "ct": 30, "slide": 24}
TELLING = {"clinical": 2, "ct": 8, "slide": 8}


@pytest.fixture(scope="session")
def patients():
    """Function -> tables of three modalities and the outcome; `effect` 0 gives features that know nothing."""

    def drawn(n: int = 90, seed: int = 0, effect: float = 2.0, r: float = 0.7):
        random = np.random.default_rng([seed, 6])
        names = [f"p{at:03}" for at in random.permutation(n)]
        hidden = random.normal(size=(n, 3))
        risk = effect * hidden.sum(1)
        label = np.zeros(n)
        label[np.argsort(risk + random.logistic(size=n))[-int(0.4 * n) :]] = 1
        tables = {}
        for at, (name, size) in enumerate(SIZES.items()):
            x = random.normal(size=(n, size))
            some = slice(0, TELLING[name])
            x[:, some] = r * hidden[:, [at]] + np.sqrt(1 - r * r) * x[:, some]
            tables[name] = pd.DataFrame(x, names, [f"{name}_{column:02}" for column in range(size)])
        time = random.exponential(np.where(label == 1, 15.0, 60.0)).clip(6.1, 60)
        return tables, pd.DataFrame({"label": label, "time_months": time, "event": label}, names)

    return drawn
