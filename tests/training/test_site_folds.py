"""Folds by tissue source site: none shared, as even as can be."""

from itertools import product

import numpy as np
import pytest

from lib.inputs.tcga import by_patient, read_outcomes
from lib.training.folds import cost_of, imbalance, refuse_shared_site, site_folds


def cohort(seed=0, sites=12, most=20):
    """Patients of sites of very different sizes, with an outcome each."""
    random = np.random.default_rng(seed)
    sizes = np.maximum(1, (most * random.random(sites) ** 3).astype(int)) + 1
    names = [f"TCGA-{10 + site}-{number:04d}" for site, size in enumerate(sizes) for number in range(size)]
    events = dict(zip(names, random.integers(0, 2, len(names)).tolist(), strict=True))
    return {name: name for name in names}, events


def counted(patients, events):
    homes = sorted({name[5:7] for name in patients})
    return homes, np.array(
        [[sum(events[p] == e and p[5:7] == s for p in patients) for e in (0, 1)] for s in homes]
    )


@pytest.mark.parametrize("seed", range(4))
def test_every_site_is_tested_once_and_never_trains_then(seed):
    patients, events = cohort(seed)
    folds = site_folds(patients, events, 5, seed)
    assert [fold.name for fold in folds] == list("01234")
    assert sorted(p for fold in folds for p in fold.test) == sorted(patients)
    for fold in folds:
        assert fold.test
        assert not {p[5:7] for p in fold.train} & {p[5:7] for p in fold.test}
        assert sorted(fold.train + fold.test) == sorted(patients)


@pytest.mark.parametrize("seed", range(6))
def test_no_assignment_is_more_even_than_the_one_found(seed):
    """All 3^7 assignments of seven sites tried: the search ends at the best."""
    patients, events = cohort(seed, sites=7)
    homes, counts = counted(patients, events)
    where = {p[5:7]: int(fold.name) for fold in site_folds(patients, events, 3) for p in fold.test}
    found = cost_of(counts, np.array([where[site] for site in homes]), 3)
    best = min(
        cost_of(counts, np.array(each), 3) for each in product(range(3), repeat=7) if len(set(each)) == 3
    )
    assert found == pytest.approx(best, abs=1e-9)


def test_order_of_rows_decides_nothing_and_is_kept():
    patients, events = cohort(3)
    rows = {f"{p}-DX{number}": p for p in patients for number in (1, 2)}
    turned = dict(reversed(rows.items()))
    for one, other in zip(site_folds(rows, events), site_folds(turned, events), strict=True):
        assert one.test == tuple(reversed(other.test))
        assert one.train == tuple(row for row in rows if row not in set(one.test))
    plain = site_folds(patients, events)
    assert {p for p in plain[0].test} == {rows[row] for row in site_folds(rows, events)[0].test}


def test_sites_may_be_given():
    patients = {name: name for name in "abcdef"}
    sites = dict(zip("abcdef", "XXYYZZ", strict=True))
    folds = site_folds(patients, {name: 0 for name in "abcdef"}, 3, sites=sites)
    assert sorted(fold.test for fold in folds) == [("a", "b"), ("c", "d"), ("e", "f")]


def test_imbalance_is_counted_by_hand():
    patients = {
        f"TCGA-{site}-{n:04d}": f"TCGA-{site}-{n:04d}"
        for site, size in (("AA", 3), ("BB", 1))
        for n in range(size)
    }
    events = dict(zip(patients, [1, 0, 0, 1], strict=True))
    table = (
        imbalance(site_folds(patients, events, 2), patients, events).set_index("fold").sort_values("patients")
    )
    assert table["sites"].tolist() == [1, 1]
    assert table["patients"].tolist() == [1, 3]
    assert table["0"].tolist() == [0, 2]
    assert table["1"].tolist() == [1, 1]
    assert table["patients_off"].tolist() == [-0.5, 0.5]
    assert table["0_off"].tolist() == [-1, 1]
    assert table["1_off"].tolist() == [0, 0]


def test_leaks_raise():
    patients = {"s1": "TCGA-AA-0001", "s2": "TCGA-AA-0002", "s3": "TCGA-BB-0001", "s4": "TCGA-BB-0001"}
    sites = {p: p[5:7] for p in patients.values()}
    refuse_shared_site(("s1", "s2"), ("s3", "s4"), patients, sites)
    with pytest.raises(ValueError, match="site AA is in training and in test"):
        refuse_shared_site(("s1",), ("s2",), patients, sites)
    with pytest.raises(ValueError, match="patient TCGA-BB-0001 is in training and in test"):
        refuse_shared_site(("s3",), ("s4",), patients, sites)


def test_what_cannot_be_dealt_out_is_refused():
    patients, events = cohort(sites=4)
    with pytest.raises(ValueError, match="5 folds cannot be made of 4 sites"):
        site_folds(patients, events, 5)
    with pytest.raises(ValueError, match="two at least"):
        site_folds(patients, events, 1)
    lost = next(iter(patients))
    with pytest.raises(ValueError, match=f"patient {lost} has no stratum"):
        site_folds(patients, {p: e for p, e in events.items() if p != lost}, 2)
    with pytest.raises(ValueError, match="no TCGA barcode"):
        site_folds({"a": "a", "b": "b"}, {"a": 0, "b": 1}, 2)


# cost of the best of 100 starts
EVEN = {"blca": 0.00315, "brca": 0.67921, "coadread": 0.00336, "gbmlgg": 0.08375, "luad": 0.0301, "ucec": 0.0}


@pytest.mark.parametrize("cancer", EVEN)
def test_real_cohorts_by_hospital(cancer, mirror):
    """As even as five times the starts make them; a large hospital forces the rest.

    Site BH has 42 of BRCA's 130 events, where a fold's share is 26: 62% over is forced. In UCEC nothing is.
    """
    cases = by_patient(read_outcomes(mirror / "tcga/survival" / f"tcga_{cancer}_survival.csv"))
    patients = {p: p for p in cases["patient"]}
    events = dict(zip(cases["patient"], cases["event"], strict=True))
    folds = site_folds(patients, events)
    table = imbalance(folds, patients, events)
    assert table["patients"].sum() == len(cases)
    assert table["1"].sum() == cases["event"].sum()
    homes, counts = counted(patients, events)
    where = {p[5:7]: int(fold.name) for fold in folds for p in fold.test}
    assert cost_of(counts, np.array([where[site] for site in homes]), 5) <= EVEN[cancer] + 1e-5
    over = table[["patients_off", "0_off", "1_off"]].to_numpy().max()
    forced = {"brca": 42 / 26 - 1, "ucec": 0.0}
    if cancer in forced:
        assert over == pytest.approx(forced[cancer], abs=1e-12)
