import dataclasses

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from lib.spacrd.features import expression, fold_features, nearest, scale, shared_genes, variable_genes
from lib.training.folds import Fold

FOLD = Fold("A", ("B1", "C1"), ("A1", "A2"))


def equal(a, b):
    """Whether two sections' features agree in everything."""
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if one is None or other is None or isinstance(one, str):
            if one is not other and one != other:
                return False
        elif not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            return False
    return True


def with_counts(section, counts):
    changed = section.copy()
    changed.X = sparse.csr_matrix(counts, dtype=np.float32)
    return changed


def test_features_are_those_of_the_sections(cohort, pictures):
    train, test = fold_features(FOLD, cohort, pictures, genes=12, marker="ERBB2")
    assert [s.name for s in train] == ["B1", "C1"]
    assert [s.name for s in test] == ["A1", "A2"]
    assert [s.patient for s in train + test] == ["B", "C", "A", "A"]
    chosen = variable_genes([cohort["B1"], cohort["C1"]], shared_genes(list(cohort.values())), 12)
    for found in train + test:
        section = cohort[found.name]
        np.testing.assert_array_equal(found.genes, expression(section, chosen))
        np.testing.assert_array_equal(found.marker, expression(section, ["ERBB2"])[:, 0])
        np.testing.assert_array_equal(found.image, pictures[found.name])
        np.testing.assert_array_equal(found.labels, section.obs["label"])
        assert found.spots.tolist() == section.obs_names.tolist()
        xy = section.obsm["spatial"]
        np.testing.assert_array_equal(found.neighbours, nearest(xy, 7, radius=2.2 * 50))
        np.testing.assert_array_equal(found.neighbours_anywhere, nearest(xy, 7))


def test_no_count_of_the_test_section_reaches_training(cohort, pictures):
    before, own = fold_features(FOLD, cohort, pictures, genes=8, marker="ERBB2")
    random = np.random.default_rng(5)
    for name in FOLD.test:
        counts = cohort[name].X.toarray()
        # the genes of the test section that vary most are now others
        cohort[name] = with_counts(cohort[name], random.permuted(counts[:, ::-1], axis=0))
    after, changed = fold_features(FOLD, cohort, pictures, genes=8, marker="ERBB2")
    assert all(equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(equal(a, b) for a, b in zip(own, changed, strict=True))


def test_labels_of_the_test_section_reach_nothing_but_its_own_labels(cohort, pictures):
    before, own = fold_features(FOLD, cohort, pictures, genes=8)
    for name in FOLD.test:
        cohort[name].obs["label"] = 1 - cohort[name].obs["label"]
    after, changed = fold_features(FOLD, cohort, pictures, genes=8)
    assert all(equal(a, b) for a, b in zip(before, after, strict=True))
    for a, b in zip(own, changed, strict=True):
        assert equal(a, dataclasses.replace(b, labels=a.labels))


def test_counts_of_training_choose_the_genes(cohort):
    before, _ = fold_features(FOLD, cohort, None, genes=5)
    for name in FOLD.train:
        counts = cohort[name].X.toarray()
        cohort[name] = with_counts(cohort[name], counts[:, ::-1])
    after, _ = fold_features(FOLD, cohort, None, genes=5)
    assert not np.array_equal(before[0].genes, after[0].genes)


def test_released_habit_chooses_genes_on_the_first_training_section(cohort):
    shared = shared_genes(list(cohort.values()))
    chosen = variable_genes([cohort["B1"]], shared, 9, as_released=True)
    train, _ = fold_features(FOLD, cohort, None, genes=9, as_released=True)
    np.testing.assert_array_equal(train[1].genes, expression(cohort["C1"], chosen))


def test_a_gene_the_test_section_lacks_is_not_used(cohort):
    lacking = list(cohort["A1"].var_names[2:])
    cohort["A1"] = AnnData(
        cohort["A1"][:, lacking].X.copy(),
        obs=cohort["A1"].obs,
        var=cohort["A1"].var.loc[lacking],
        obsm=dict(cohort["A1"].obsm),
        uns=dict(cohort["A1"].uns),
    )
    train, test = fold_features(FOLD, cohort, None, genes=25, marker="ERBB2")
    assert {s.genes.shape[1] for s in train + test} == {23}
    assert test[0].marker is None
    assert train[0].marker is not None


def test_a_patient_on_both_sides_raises(cohort):
    with pytest.raises(ValueError, match="patient A is in training and in test"):
        fold_features(Fold("x", ("A1", "B1"), ("A2",)), cohort, None, genes=5)


@pytest.mark.parametrize(
    ("label", "counts"),
    [(0, "0 cancer and 118 other"), (1, "118 cancer and 0 other"), (np.nan, "0 cancer and 0 other")],
)
def test_training_sections_of_one_class_raise(cohort, label, counts):
    for name in FOLD.train:
        known = cohort[name].obs["label"].notna()
        cohort[name].obs.loc[known, "label"] = np.float32(label)
    with pytest.raises(ValueError, match=rf"fold A: the training sections B1, C1 have {counts} spots"):
        fold_features(FOLD, cohort, None, genes=5)


def test_sections_without_a_shared_gene_raise(cohort, section):
    cohort["A2"] = section("A2", genes=[f"ENSG{i:011}" for i in range(25)])
    with pytest.raises(ValueError, match="section A2 shares no gene"):
        fold_features(FOLD, cohort, None, genes=5)


def test_undetermined_spots_can_count_as_negative(cohort):
    train, _ = fold_features(FOLD, cohort, None, genes=5)
    assert np.isnan(train[0].labels).nonzero()[0].tolist() == [5]
    train, test = fold_features(FOLD, cohort, None, genes=5, undetermined="negative")
    assert train[0].labels[5] == test[0].labels[5] == 0
    assert not np.isnan(train[0].labels).any()


def test_no_genes_and_no_pictures(cohort, pictures):
    train, _ = fold_features(FOLD, cohort, pictures, genes=0, marker="ERBB2")
    assert train[0].genes is None
    assert train[0].marker is None
    train, _ = fold_features(FOLD, cohort, None, genes=5)
    assert train[0].image is None


def test_no_neighbour_across_a_gap_unless_released(cohort):
    xy = cohort["B1"].obsm["spatial"]
    xy[xy[:, 0] > 200, 0] += 5000
    train, _ = fold_features(FOLD, cohort, None, genes=5)
    side = xy[:, 0] > 200
    torn = xy[:, 0] == 5250  # the rim of the far side
    assert (side[train[0].neighbours] == side[:, None]).all()
    near = np.linalg.norm(xy[train[0].neighbours] - xy[:, None], axis=-1)
    assert near.max() <= 2.2 * 50
    assert torn.sum() == 6
    anywhere = train[0].tensors("minmax", image=False, genes=True, anywhere=True)
    np.testing.assert_array_equal(anywhere.neighbours, nearest(xy, 7))


def test_tensors_are_scaled_within_the_section(cohort, pictures):
    train, _ = fold_features(FOLD, cohort, pictures, genes=8)
    for how in ("minmax", "robust", "zscore"):
        spots = train[1].tensors(how, image=True, genes=True)
        torch.testing.assert_close(spots.genes, torch.as_tensor(scale(train[1].genes, how)))
        torch.testing.assert_close(spots.image, torch.as_tensor(scale(train[1].image, how)))
    assert spots.section.tolist() == ["C1"] * 60
    assert torch.isnan(spots.labels).sum() == 1
    assert train[1].tensors("minmax", image=False, genes=True).image is None
    assert train[1].tensors("minmax", image=True, genes=False).genes is None
