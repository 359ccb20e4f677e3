"""Phantom stroke patients: the outcome needs both modalities, and in the null cohort neither tells anything."""

import numpy as np
import pandas as pd
import pytest

from lib.stroke.phantom import LARGEST_ML, MARGINAL, oracle_aucs, patients


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return patients(20_000, seed=1)


@pytest.mark.parametrize("effect", [0.0, 0.5, 1.0])
def test_frequencies_of_mrs_do_not_depend_on_the_effect(effect):
    mrs = patients(20_000, seed=2, effect=effect)["mrs"]
    np.testing.assert_allclose(mrs.value_counts(normalize=True).sort_index(), MARGINAL, atol=0.012)


def test_risk_is_the_frequency_of_a_poor_outcome(many):
    bad = many["mrs"] >= 3
    found = bad.groupby(pd.cut(many["risk"], np.linspace(0, 1, 6))).mean()
    told = many["risk"].groupby(pd.cut(many["risk"], np.linspace(0, 1, 6))).mean()
    np.testing.assert_allclose(found, told, atol=0.03)


def test_both_modalities_are_better_than_either():
    aucs = oracle_aucs()
    assert 0.70 < aucs["admission"] < 0.80
    assert 0.80 < aucs["imaging"] < 0.92
    assert aucs["admission"] + 0.005 < aucs["postprocedural"] < 0.80
    assert aucs["admission + imaging"] > aucs["imaging"] + 0.03
    assert aucs["postprocedural + imaging"] > aucs["admission + imaging"] + 0.01
    assert 0.92 < aucs["postprocedural + imaging"] < aucs["truth"] + 0.01


def test_null_is_chance_for_everything():
    np.testing.assert_allclose(list(oracle_aucs(effect=0.0).values()), 0.5, atol=0.02)


def test_null_twin_has_the_same_patients():
    one, null = patients(50, seed=4), patients(50, seed=4, effect=0.0)
    told = ["signal", "risk", "mrs"]
    pd.testing.assert_frame_equal(one.drop(columns=told), null.drop(columns=told))
    assert null["risk"].nunique() == 1
    assert (one["mrs"] != null["mrs"]).any()


def test_lost_penumbra_is_worth_the_product(many):
    """Reperfusion matters where there is a penumbra, and hardly where there is none."""

    def gain(rows: pd.Series) -> float:
        bad = (many["mrs"] >= 3) & rows
        open_, shut = many["mtici"] == 2, many["mtici"] == 0
        return bad[shut].sum() / (rows & shut).sum() - bad[open_].sum() / (rows & open_).sum()

    assert gain(many["penumbra_ml"] > 40) > gain(many["penumbra_ml"] < 5) + 0.15


def test_collaterals_and_time_make_the_core(many):
    share = many["core_ml"] / (many["core_ml"] + many["penumbra_ml"])
    assert np.corrcoef(share, many["collateral"])[0, 1] < -0.6
    assert np.corrcoef(share, np.log(many["onset_to_ctp_min"]))[0, 1] > 0.2


def test_lesions_vary_from_nearly_nothing_to_most_of_the_territory(many):
    total = many["core_ml"] + many["penumbra_ml"]
    low, middle, high = np.quantile(total, [0.05, 0.5, 0.95])
    assert low < 5
    assert 40 < middle < 80
    assert high > 0.9 * LARGEST_ML
    assert total.max() <= LARGEST_ML


def test_covariates_are_those_of_stroke_patients(many):
    assert 67 < many["age"].mean() < 73
    assert 130 < many["onset_to_ctp_min"].median() < 170
    assert 80 < many["ctp_to_recanalisation_min"].median() < 100
    total = many["core_ml"] + many["penumbra_ml"]
    assert 0.3 < np.corrcoef(many["nihss"], total)[0, 1] < 0.6
    assert abs(np.corrcoef(many["age"], total)[0, 1]) < 0.05
    np.testing.assert_allclose(
        many["mtici"].value_counts(normalize=True).sort_index(), [0.2, 0.4, 0.4], atol=0.02
    )
    assert (many["onset_to_ctp_min"] == many["onset_to_door_min"] + many["door_to_imaging_min"]).all()


def test_one_seed_one_cohort():
    pd.testing.assert_frame_equal(patients(30, seed=4), patients(30, seed=4))
    assert not patients(30, seed=4)["age"].equals(patients(30, seed=5)["age"])


@pytest.mark.parametrize(("n", "effect"), [(0, 1.0), (5, -1.0)])
def test_nonsense_is_refused(n, effect):
    with pytest.raises(ValueError, match=f"{n} patients, effect {effect}"):
        patients(n, effect=effect)


def test_the_side_counts_and_no_volume_tells_it(many):
    left = many["side"] == "left"
    assert abs(np.corrcoef(left, many["core_ml"])[0, 1]) < 0.03
    assert abs(np.corrcoef(left, many["penumbra_ml"])[0, 1]) < 0.03
    assert (many.loc[left, "mrs"] >= 3).mean() > (many.loc[~left, "mrs"] >= 3).mean() + 0.2
