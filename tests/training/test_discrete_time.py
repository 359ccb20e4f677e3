"""Bins, loss and risk in discrete time: hand-computed values, naive twins, and the real tables' edges."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.inputs.tcga import by_patient, read_outcomes
from lib.training.discrete_time import bin_of, fit_bins, risk_of, survival_at, survival_nll, survival_of

HAZARDS = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
# died in bin Y: S(Y - 1) h(Y), as .9 x .8 x .3 for Y = 2; censored in it: S(Y), as .9 x .8 x .7
DIED = [0.1, 0.18, 0.216, 0.2016]
CENSORED = [0.9, 0.72, 0.504, 0.3024]


def cohort(seed=0, n=60, share=0.4):
    random = np.random.default_rng(seed)
    return np.round(random.exponential(30, n), 2), (random.random(n) < share).astype(int)


def released_bins(time, event, bins=4):
    """What the released code does with pandas, edges and bins of the same patients."""
    table = pd.DataFrame({"time": time, "event": event})
    _, edges = pd.qcut(table.time[table.event == 1], q=bins, retbins=True, labels=False)
    edges[0], edges[-1] = table.time.min() - 1e-6, table.time.max() + 1e-6
    return edges, pd.cut(table.time, bins=edges, labels=False, right=False, include_lowest=True).to_numpy()


def naive_nll(hazards, bin, event, alpha, clamp):
    """The formula, read aloud, for one patient."""
    survival, log = [1.0], lambda p: np.log(max(p, clamp))
    for hazard in hazards:
        survival.append(survival[-1] * (1 - hazard))
    died = -event * (log(survival[bin]) + log(hazards[bin]))
    censored = -(1 - event) * log(survival[bin + 1])
    return (1 - alpha) * (censored + died) + alpha * died


@pytest.mark.parametrize("seed", range(5))
def test_bins_are_those_of_the_released_code(seed):
    time, event = cohort(seed)
    edges, expected = released_bins(time, event)
    np.testing.assert_array_equal(fit_bins(time, event), edges)
    np.testing.assert_array_equal(bin_of(time, edges), expected)


def test_times_outside_the_training_range_fall_into_the_outer_bins():
    edges = fit_bins(np.arange(10, 19), np.ones(9))
    assert bin_of([0, 9, 18, 19, 1e6], edges).tolist() == [0, 0, 3, 3, 3]


def test_censored_patients_widen_the_outer_bins_and_move_nothing_else():
    time, event = cohort()
    edges = fit_bins(time, event)
    wider = fit_bins([*time, 0.0, 900.0, 20.0], [*event, 0, 0, 0])
    np.testing.assert_array_equal(wider[1:-1], edges[1:-1])
    assert (wider[0], wider[-1]) == (-1e-6, 900.000001)


@given(scale=st.sampled_from([0.25, 2.0, 32.0]), seed=st.integers(0, 50), bins=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_bins_follow_the_unit_of_time_and_ignore_the_order(scale, seed, bins):
    time, event = cohort(seed)
    order = np.random.default_rng(seed).permutation(time.size)
    found = bin_of(time, fit_bins(time, event, bins))
    np.testing.assert_array_equal(bin_of(time * scale, fit_bins(time * scale, event, bins)), found)
    np.testing.assert_array_equal(
        bin_of(time[order], fit_bins(time[order], event[order], bins)), found[order]
    )
    died = np.bincount(found[event == 1], minlength=bins)
    assert died.sum() == event.sum()
    assert died.min() > 0


def test_whole_months_get_the_bins_that_are_feasible():
    """Quantiles of event times that coincide once stopped the training: 25 events at 8 distinct times, 4 bins."""
    died = np.repeat([1, 2, 3, 6, 9, 12, 18, 24], [11, 4, 3, 2, 2, 1, 1, 1])
    time, event = np.r_[died, 30, 5], np.r_[np.ones(25), 0, 0]
    edges = fit_bins(time, event, 4)
    np.testing.assert_allclose(edges, [1 - 1e-6, 2, 3, 6, 30 + 1e-6])
    assert np.bincount(bin_of(died, edges)).tolist() == [11, 4, 3, 7]
    for counts in ([4, 1, 1, 1], [1, 1, 1, 4], [1, 9, 1, 1]):  # as many distinct times as bins: one in each
        time = np.r_[np.repeat([1, 2, 3, 4], counts), 5]
        assert np.bincount(bin_of(time[:-1], fit_bins(time, time < 5, 4))).tolist() == counts


@pytest.mark.parametrize(
    ("time", "event", "message"),
    [
        ([1, 2, 3, 4, 5], [1, 1, 1, 0, 0], "3 distinct event times of 3 events are too few for 4 bins"),
        ([1, 2, 3], [0, 0, 0], "0 distinct event times of 0 events"),
        ([1, np.nan, 3, 4, 5, 6], [1, 0, 1, 1, 1, 1], "5 distinct event times"),
    ],
)
def test_unusable_follow_up_is_refused(time, event, message):
    with pytest.raises(ValueError, match=message):
        fit_bins(time, event)


@pytest.mark.parametrize("clamp", [None, 1e-7])
def test_loss_of_every_bin_and_outcome(clamp):
    logits, bins = HAZARDS.logit().expand(8, 4), torch.arange(4).repeat(2)
    losses = survival_nll(logits, bins, torch.arange(2).repeat_interleave(4), alpha=0.25, clamp=clamp)
    np.testing.assert_allclose(losses, [*(-0.75 * np.log(CENSORED)), *-np.log(DIED)], rtol=1e-12)


@given(st.integers(0, 1000), st.floats(0, 1), st.integers(2, 7), st.sampled_from([None, 1e-7, 0.3]))
@settings(max_examples=40, deadline=None)
def test_loss_is_the_formula(seed, alpha, bins, clamp):
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=(9, bins))
    bin, event = random.integers(0, bins, 9), random.integers(0, 2, 9)
    found = survival_nll(torch.tensor(logits), torch.tensor(bin), torch.tensor(event), alpha, clamp)
    hazards = 1 / (1 + np.exp(-logits))
    expected = [
        naive_nll(*one, alpha, clamp or 0) for one in zip(hazards, bin.tolist(), event.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_can_happen_has_chance_one_in_all():
    """To die in any of the bins, or to outlive the last."""
    logits = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    chances = [
        (-survival_nll(logits, torch.full((20,), bin), torch.full((20,), event))).exp()
        for bin, event in [*((bin, 1) for bin in range(5)), (4, 0)]
    ]
    np.testing.assert_allclose(sum(chances), np.ones(20), rtol=1e-12)


def test_extreme_logits_keep_their_loss_and_gradient_where_the_clamp_loses_both():
    bin, event = torch.tensor([2, 2]), torch.tensor([1, 0])
    for clamp, gradient in ((None, 1.0), (1e-7, 0.0)):
        logits = torch.tensor([[40.0, 0, 0, 0], [40.0, 0, 0, 0]], requires_grad=True)
        losses = survival_nll(logits, bin, event, clamp=clamp)
        losses.sum().backward()
        assert torch.isfinite(losses).all()
        np.testing.assert_allclose(logits.grad[:, 0], [gradient, gradient])
    wild = torch.tensor([[-300.0, 300, -300, 300]], requires_grad=True)
    loss = survival_nll(wild, torch.tensor([2]), torch.tensor([1]))
    loss.sum().backward()
    assert loss.item() == 600.0
    assert torch.isfinite(wild.grad).all()


def test_survival_and_risk_by_hand():
    np.testing.assert_allclose(survival_of(HAZARDS), [CENSORED], rtol=1e-12)
    np.testing.assert_allclose(risk_of(HAZARDS), [-(0.9 + 0.72 + 0.504 + 0.3024)], rtol=1e-12)
    assert risk_of(torch.tensor([[0.0] * 4, [1.0] * 4])).tolist() == [-4, 0]


def test_survival_is_read_off_between_edges():
    found = survival_at(np.array([[0.8, 0.4]]), np.array([2.0, 10.0, 20.0]), [0, 5, 10, 15, 20, 99])
    np.testing.assert_allclose(found, [[1, 0.9, 0.8, 0.6, 0.4, 0.4]])


# inner edges in months, and (died, censored) slides of each bin; printed in the study's notes from the same tables
SLIDES = {
    "crossfusion/data/tcga_blca_all_clean.csv.zip": (
        [7.79, 13.57, 23.39],
        [7.62, 13.57, 21.85],
        [(50, 22), (50, 33), (50, 59), (51, 122)],
    ),
    "crossfusion/data/tcga_luad_all_clean.csv.zip": (
        [12.32, 23.36, 35.51],
        [10.12, 20.57, 35.51],
        [(50, 39), (50, 120), (50, 58), (51, 89)],
    ),
    "crossfusion/data/tcga_ucec_all_clean.csv.zip": (
        [12.92, 23.46, 33.07],
        [12.13, 23.46, 33.86],
        [(20, 49), (19, 123), (20, 62), (20, 226)],
    ),
    "crossfusion/data/tcga_coad_all_clean.csv": (
        [5, 13, 29.25],
        None,
        [(19, 30), (28, 31), (25, 145), (24, 122)],
    ),
}


@pytest.mark.parametrize("name", SLIDES)
def test_edges_and_counts_of_the_real_tables(name, mirror):
    by_slide, by_case, counts = SLIDES[name]
    table = read_outcomes(mirror / "tcga" / name)
    edges = fit_bins(table["time_months"], table["event"])
    np.testing.assert_allclose(edges[1:-1], by_slide, atol=0.0051)
    bins = bin_of(table["time_months"], edges)
    found = [tuple(int(((bins == k) & (table["event"] == e)).sum()) for e in (1, 0)) for k in range(4)]
    assert found == counts
    if by_case:
        cases = by_patient(table)
        np.testing.assert_allclose(fit_bins(cases["time_months"], cases["event"])[1:-1], by_case, atol=0.0051)
