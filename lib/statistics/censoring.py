"""How likely a patient was still being followed: the censoring that inverse-probability weights undo."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.classification import NotComputable
from lib.statistics.survival import checked_outcomes


@dataclass(frozen=True)
class Censoring:
    """Kaplan-Meier of the time to censoring, G. Fit it on the training fold, ask it about the others.

    Where a patient dies and another is censored at one time, death came first: who died was not at risk
    of being censored then. This is scikit-survival's rule too.

    Attributes
    ----------
    times : float array (m,)
        Distinct follow-up times it was fitted on, increasing.
    probability : float array (m,)
        G at each of them, 1 to 0, never rising.
    """

    times: np.ndarray
    probability: np.ndarray

    @classmethod
    def fit(cls, time: ArrayLike, event: ArrayLike) -> "Censoring":
        """From follow-up times (n,) and events (n,), 1 = event, 0 = censored. Errors: `checked_outcomes`."""
        time, event = checked_outcomes(time, event)
        times, place, leaving = np.unique(time, return_inverse=True, return_counts=True)
        events = np.bincount(place, weights=event)
        staying = time.size - np.cumsum(leaving) + leaving - events
        censored = leaving - events
        share = np.divide(censored, staying, out=np.zeros(times.size), where=censored > 0)
        return cls(times, np.cumprod(1 - share))

    def survival(self, times: ArrayLike) -> np.ndarray:
        """G(t), the chance not to have been censored by t, t itself included.

        Parameters
        ----------
        times : array (k,)
            In the unit it was fitted in.

        Returns
        -------
        float array (k,)
            0 to 1.

        Raises
        ------
        NotComputable
            A time beyond the longest follow-up, unless G reached 0 there: nobody knows G then.
        """
        return self._steps(times, "right")

    def survival_before(self, times: ArrayLike) -> np.ndarray:
        """G(t-), the chance not to have been censored before t: G without the step at t. As `survival`."""
        return self._steps(times, "left")

    def _steps(self, times: ArrayLike, side: str) -> np.ndarray:
        times = np.asarray(times, dtype=float)
        last = self.times[-1]
        if self.probability[-1] > 0 and (beyond := int((times > last).sum())):
            raise NotComputable(
                f"{beyond} of {times.size} times lie beyond {last:g}, the longest follow-up that the censoring "
                f"was fitted on, where nothing is known of it: choose an earlier horizon (tau)"
            )
        return np.r_[1.0, self.probability][np.searchsorted(self.times, times, side)]

    def weights(self, time: ArrayLike, event: ArrayLike) -> np.ndarray:
        """Inverse-probability-of-censoring weights: 1 / G(time) for events, 0 for the censored.

        G is taken at the event's time, as in scikit-survival, not just before it as in Graf et al. (1999);
        the two differ only where a patient was censored at the time of another's event.

        Parameters
        ----------
        time : array (n,)
        event : array (n,)
            1 = event, 0 = censored.

        Returns
        -------
        float array (n,)
            0, or 1 and more.

        Raises
        ------
        NotComputable
            An event lies where G is 0 or unknown.

        References
        ----------
        Robins and Finkelstein, Biometrics 56 (2000), 779, doi:10.1111/j.0006-341X.2000.00779.x.
        """
        time, event = checked_outcomes(time, event)
        followed = self.survival(time[event])
        if lost := int((followed == 0).sum()):
            raise NotComputable(
                f"{lost} of {followed.size} events lie where everybody still followed was censored, so no weight "
                f"can stand for them: choose a horizon (tau) before {time[event][followed == 0].min():g}"
            )
        weights = np.zeros(time.size)
        weights[event] = 1 / followed
        return weights
