"""One survival model's predictions for patients it was not trained on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.statistics.survival import checked_outcomes


@dataclass(frozen=True)
class HeldOut:
    """Predictions of one model, each patient held out once.

    Attributes
    ----------
    patient, fold : array (n,)
        Patients in the order of the cohort, and the fold that held each out.
    time : float array (n,)
    event : bool array (n,)
    risk : array (seeds, n)
        Higher = earlier event. Comparable within a fold and seed only.
    survival : array (seeds, n, times) or None
        Probability of being free of the event at each of `times`; None where the model gives a bare risk.
    times : float array (times,)
        Ascending.
    """

    patient: np.ndarray
    fold: np.ndarray
    time: np.ndarray
    event: np.ndarray
    risk: np.ndarray
    survival: np.ndarray | None = None
    times: np.ndarray | None = None

    @classmethod
    def of(cls, predictions: pd.DataFrame, cohort: pd.DataFrame) -> "HeldOut":
        """Join one model's predictions with the cohort.

        Parameters
        ----------
        predictions : DataFrame
            One model: seed, fold, patient, score; `survival_<time>` for each time where the model has them;
            optionally time and event, as whoever made the predictions knew them.
        cohort : DataFrame
            Indexed by patient: time_months, event, fold.

        Raises
        ------
        ValueError
            A patient the cohort does not know, one predicted twice or not by every seed, one in another fold than
            the cohort's, another outcome than the cohort's, or a score that is NaN or infinite.
        """
        name = predictions["model"].iloc[0] if "model" in predictions else "the model"
        if strange := sorted(set(predictions["patient"]) - set(cohort.index)):
            raise ValueError(
                f"{name} predicts {len(strange)} patients the cohort does not have, such as {strange[0]}: "
                "take the cohort's own predictions, or the table of outcomes they were made with"
            )
        if (twice := predictions.duplicated(["seed", "patient"])).any():
            raise ValueError(
                f"{name} predicts patient {predictions['patient'][twice].iloc[0]} twice in one seed"
            )
        own = cohort.loc[cohort.index.isin(set(predictions["patient"]))]
        stored = cohort.loc[predictions["patient"]]
        _agree(name, predictions, "fold", predictions["fold"].astype(str), stored["fold"].astype(str))
        if "event" in predictions and predictions["event"].notna().all():
            _agree(name, predictions, "event", predictions["event"].astype(int), stored["event"].astype(int))
            _agree(name, predictions, "time", predictions["time"].round(2), stored["time_months"].round(2))
        seeds = sorted(predictions["seed"].unique())

        def wide(column: str) -> np.ndarray:
            table = predictions.pivot(index="seed", columns="patient", values=column)
            table = table.reindex(index=seeds, columns=own.index)
            if not np.isfinite(table.to_numpy(dtype=float)).all():
                seed, patient = table.stack(future_stack=True)[lambda x: ~np.isfinite(x)].index[0]
                raise ValueError(f"{name}, seed {seed}: patient {patient} has no finite {column}")
            return table.to_numpy(dtype=float)

        told = [c for c in predictions if c.startswith("survival_") and predictions[c].notna().any()]
        times = sorted(float(column.removeprefix("survival_")) for column in told)
        time, event = checked_outcomes(own["time_months"], own["event"])
        return cls(
            patient=own.index.to_numpy(),
            fold=own["fold"].astype(str).to_numpy(),
            time=time,
            event=event,
            risk=wide("score"),
            survival=np.stack([wide(f"survival_{at:g}") for at in times], axis=-1) if told else None,
            times=np.array(times) if told else None,
        )

    def on(self, patients: np.ndarray) -> "HeldOut":
        """The same model on some of its patients, in its own order."""
        kept = np.isin(self.patient, patients)
        survival = None if self.survival is None else self.survival[:, kept]
        rows = (x[kept] for x in (self.patient, self.fold, self.time, self.event))
        return HeldOut(*rows, self.risk[:, kept], survival, self.times)


def _agree(name: str, predictions: pd.DataFrame, what: str, theirs: pd.Series, ours: pd.Series) -> None:
    differ = theirs.to_numpy() != ours.to_numpy()
    if differ.any():
        at = int(np.flatnonzero(differ)[0])
        raise ValueError(
            f"{name}: {int(differ.sum())} patients have another {what} than in the cohort, such as "
            f"{predictions['patient'].iloc[at]} ({theirs.iloc[at]}, in the cohort {ours.iloc[at]})"
        )
