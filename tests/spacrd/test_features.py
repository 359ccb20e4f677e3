"""What a model sees: genes, scaling, neighbours, batches, and that nothing of the test patient is fitted."""

import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
import squidpy
import torch
from anndata import AnnData
from scipy import sparse

from lib.spacrd.features import (
    Batches,
    Spots,
    expression,
    fold_features,
    labelled_patches,
    nearest,
    patches,
    scale,
    shared_genes,
    variable_genes,
)
from lib.spacrd.params import SpaCRDParams
from lib.training.folds import Fold

PLANTED = ("G010", "G033", "G051", "G072", "G090")


def counted(name, counts, genes):
    return AnnData(
        sparse.csr_matrix(counts, dtype=np.float32),
        obs=pd.DataFrame(index=[f"{name}-{i}" for i in range(len(counts))]),
        var=pd.DataFrame(index=list(genes)),
        uns={"section": {"name": name, "patient": name}},
    )


def tissue(name, seed, planted=PLANTED, spots=80, genes=120):
    """Poisson counts of many levels; a planted gene is on in one third of the spots."""
    random = np.random.default_rng(seed)
    names = [f"G{i:03}" for i in range(genes)]
    level = np.geomspace(1, 20, genes)
    counts = random.poisson(np.tile(level, (spots, 1)))
    for gene in planted:
        column = names.index(gene)
        counts[:, column] = random.poisson(np.where(random.random(spots) < 1 / 3, 6, 0.2) * level[column])
    return counted(name, counts, names)


def test_shared_genes_are_sorted_whatever_the_order_of_sections():
    a = counted("A", np.ones((2, 4)), ["TP53", "ERBB2", "ACTB", "KRT8"])
    b = counted("B", np.ones((2, 3)), ["KRT8", "ERBB2", "GRB7"])
    c = counted("C", np.ones((2, 2)), ["ENSG00000141736", "ENSG00000075624"])
    assert shared_genes([a, b]) == shared_genes([b, a]) == ["ERBB2", "KRT8"]
    with pytest.raises(ValueError, match=r"share 0 genes of at least 2 \(A has TP53.*; C has ENSG00000"):
        shared_genes([a, c])
    few = counted("D", np.ones((2, 10)), ["ERBB2", "KRT8", *(f"ENSG{i:011d}" for i in range(8))])
    many = counted("E", np.ones((2, 10)), ["ERBB2", "KRT8", *(f"G{i}" for i in range(8))])
    with pytest.raises(ValueError, match="share 2 genes of at least 10"):
        shared_genes([few, many])


def test_planted_genes_are_found_and_sorted_whatever_the_order():
    sections = [tissue("A", 0), tissue("B", 1)]
    before = sections[0].X.toarray()
    candidates = list(reversed(shared_genes(sections)))
    assert variable_genes(sections, candidates, 5) == sorted(PLANTED)
    chosen = variable_genes(sections, candidates, 12)
    assert (len(chosen), chosen) == (12, sorted(chosen))
    assert set(PLANTED) <= set(chosen)
    assert variable_genes(sections[::-1], candidates, 12) == chosen
    variable_genes(sections, candidates, 5, as_released=True)
    np.testing.assert_array_equal(sections[0].X.toarray(), before, "the counts are left alone")


def test_released_habit_looks_at_the_first_section_alone():
    others = [tissue("B", 1), tissue("C", 2)]
    odd = tissue("A", 0, planted=("G021", "G044", "G063", "G085"))
    sections = [odd, *others]
    genes = shared_genes(sections)
    released = variable_genes(sections, genes, 5, as_released=True)
    assert released != variable_genes(sections, genes, 5)
    assert released == variable_genes([odd], genes, 5, as_released=True)
    # nothing of the later sections is looked at
    changed = [odd, tissue("B", 8, planted=("G012", "G100")), others[1]]
    assert variable_genes(changed, genes, 5, as_released=True) == released
    assert variable_genes(changed, genes, 5) != variable_genes(sections, genes, 5)


def test_a_panel_reads_as_the_whole_transcriptome_does_on_its_genes():
    """The same spots counted on 600 genes and on 60 of them; the authors cut to the shared genes before they take totals."""
    random = np.random.default_rng(0)
    counts = random.poisson(random.gamma(0.5, 3, 600) * random.gamma(2, 1, (64, 1)))
    names = [f"g{i:03}" for i in range(600)]
    sections = {"W": counted("W", counts, names), "P": counted("P", counts[:, :60], names[:60])}
    for one in sections.values():
        one.obs["label"] = np.tile(np.float32([0, 1]), 32)
        one.obsm["spatial"] = square(8, 8, 40.0)
        one.uns["section"]["pitch_px"] = 40.0
    for train, test in ("WP", "PW"):
        fold = Fold(test, (train,), (test,))
        (seen,), (unseen,) = features_of(sections, fold=fold, genes=60, marker="g007")
        np.testing.assert_array_equal(seen.genes, unseen.genes)
        np.testing.assert_array_equal(seen.marker, unseen.marker)
        panel = counts[:, :60]
        right = np.log1p(1e4 * panel / np.maximum(panel.sum(1, keepdims=True), 1))
        np.testing.assert_allclose(seen.genes, right, rtol=1e-5)
        np.testing.assert_allclose(seen.marker, right[:, 7], rtol=1e-5)
    alone = expression(sections["W"], names[:60])
    assert right.mean() > 1.3 * alone.mean(), "all genes of a section are another total"


def test_scaling():
    features = np.random.default_rng(0).normal(3, 5, (401, 4)) * [1, 10, 0.01, 0]
    features = features.astype(np.float32)
    features[:, 3] = 0.1  # constant, and its float32 mean is not exactly 0.1
    minmax, zscore = scale(features, "minmax"), scale(features, "zscore")
    np.testing.assert_array_equal([minmax.min(0), minmax.max(0)], [[0] * 4, [1, 1, 1, 0]])
    np.testing.assert_allclose(scale(3 * features - 5, "minmax")[:, :2], minmax[:, :2], atol=1e-4)
    np.testing.assert_allclose(zscore.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(zscore.std(0), [1, 1, 1, 0], atol=1e-3)
    assert minmax.dtype == zscore.dtype == np.float32


def test_robust_ignores_one_outlier_and_keeps_a_marker_seen_in_few_spots():
    column = np.linspace(0, 1, 400)[:, None]
    spoiled, rare = column.copy(), np.zeros((400, 1))
    spoiled[7], rare[[3, 5], 0] = 1000, [2, 4]
    others = np.arange(400) != 7
    assert scale(spoiled, "minmax")[others].max() < 0.01
    scaled = scale(np.hstack([spoiled, rare, np.full((400, 1), 2.5)]), "robust")
    np.testing.assert_allclose(scaled[others, 0], scale(column, "robust")[others, 0], atol=0.02)
    assert (scaled[7, 0], scaled[:, 0].min()) == (1, 0)
    assert scaled[[3, 5], 1].tolist() == [0.5, 1]
    assert scaled[:, 1].sum() == 1.5
    assert not scaled[:, 2].any()


def square(width, height, pitch=1.0):
    """Positions of width x height spots: full of ties."""
    return pitch * np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2).astype(float)


def hexagons(width, height):
    xy = square(width, height)
    return np.column_stack([xy[:, 0] + 0.5 * (xy[:, 1] % 2), xy[:, 1] * np.sqrt(3) / 2])


def scattered(n=150):
    return np.random.default_rng(0).uniform(0, 9, (n, 2))


def distances(xy, index):
    return np.linalg.norm(xy[index] - xy[:, None], axis=-1)


def naive(xy, k):
    """The k smallest distances of each spot, by looking at all pairs; which of equals comes first is nobody's business."""
    return np.sort(np.linalg.norm(xy[:, None] - xy, axis=-1), axis=1)[:, :k]


@pytest.mark.parametrize("xy", [square(9, 8), hexagons(8, 9), scattered()], ids=["square", "hexagons", "any"])
@pytest.mark.parametrize("k", [2, 7])
def test_nearest_equals_all_pairs(xy, k):
    index = nearest(xy, k)
    assert (index.shape, index.dtype) == ((len(xy), k), np.int64)
    np.testing.assert_allclose(distances(xy, index), naive(xy, k), atol=1e-9)
    np.testing.assert_array_equal(index[:, 0], np.arange(len(xy)))
    assert all(len(set(row)) == k for row in index)


@pytest.mark.parametrize("copies", [2, 12], ids=["twins", "more at one place than neighbours"])
def test_a_spot_comes_first_among_spots_at_its_own_place(copies):
    xy = np.concatenate([square(4, 4), np.tile([[1.0, 1.0]], (copies - 1, 1))])
    index = nearest(xy, 7)
    np.testing.assert_array_equal(index[:, 0], np.arange(len(xy)))
    assert all(len(set(row)) == 7 for row in index)
    np.testing.assert_allclose(distances(xy, index), naive(xy, 7), atol=1e-9)
    np.testing.assert_array_equal(nearest(xy, 7, radius=0.5)[:, 0], np.arange(len(xy)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("jitter", [0.02, 0.2])
def test_nearest_are_squidpys_neighbours_where_no_distances_tie(jitter):
    xy = square(12, 11) + np.random.default_rng(0).normal(0, jitter, (132, 2))
    section = anndata.AnnData(np.zeros((132, 1), np.float32), obsm={"spatial": xy})
    squidpy.gr.spatial_neighbors_knn(section, n_neighs=6)
    ours = np.zeros((132, 132), bool)
    np.put_along_axis(ours, nearest(xy, 7)[:, 1:], True, axis=1)
    np.testing.assert_array_equal(section.obsp["spatial_connectivities"].toarray() > 0, ours)


def stacked(sides, undetermined=0.1, seed=0):
    """Sections of side x side spots, stacked; image holds each spot's own row number."""
    random, parts, start = np.random.default_rng(seed), [], 0
    for number, side in enumerate(sides):
        xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(float)
        labels = random.integers(0, 2, len(xy)).astype(np.float32)
        labels[random.random(len(xy)) < undetermined] = np.nan
        rows = torch.arange(start, start + len(xy), dtype=torch.float32)[:, None]
        genes = torch.as_tensor(random.normal(size=(len(xy), 3)), dtype=torch.float32)
        name = np.full(len(xy), f"S{number}")
        parts.append(Spots(rows, genes, torch.as_tensor(labels), torch.as_tensor(nearest(xy, 7)), xy, name))
        start += len(xy)
    return Spots.stack(parts)


def test_stacking_keeps_every_spots_own_neighbours(toy):
    parts = [toy("A1", 0), toy("B1", 1)]
    whole = Spots.stack(parts)
    assert whole.section.tolist() == ["A1"] * 60 + ["B1"] * 60
    for own, part in zip((slice(60), slice(60, 120)), parts, strict=True):
        torch.testing.assert_close(whole.genes[whole.neighbours[own]], part.genes[part.neighbours])
        torch.testing.assert_close(whole.image[own], part.image)
        torch.testing.assert_close(whole.labels[own], part.labels, equal_nan=True)
        np.testing.assert_array_equal(whole.xy[own], part.xy)


@pytest.mark.parametrize("size", [1, 5, 32, 10_000])
def test_patches_partition_every_section(size):
    spots = stacked([9, 14, 6])
    pieces = patches(spots, size)
    np.testing.assert_array_equal(np.sort(np.concatenate(pieces)), np.arange(len(spots)))
    assert max(map(len, pieces)) <= size
    assert min(map(len, pieces)) >= min(size, 36) // 2
    assert all(len(set(spots.section[piece])) == 1 for piece in pieces)


def test_a_batch_is_what_naive_indexing_gives():
    spots = stacked([9, 7])
    centres = np.random.default_rng(1).permutation(len(spots))[:23]
    batch = spots.batch(centres)
    naive = spots.neighbours[centres]
    assert batch["neighbours"].shape == (23, 7)
    torch.testing.assert_close(batch["genes"][batch["neighbours"]], spots.genes[naive])
    torch.testing.assert_close(batch["image"][batch["neighbours"]], spots.image[naive])
    torch.testing.assert_close(batch["labels"], spots.labels[centres], equal_nan=True)
    # each spot once, and none that nobody asked for
    assert sorted(batch["image"][:, 0].int().tolist()) == sorted(set(naive.flatten().tolist()))
    np.testing.assert_array_equal(batch["image"][batch["neighbours"][:, 0], 0], centres)


@pytest.mark.parametrize(("batch_size", "patch_size"), [(16, 1), (40, 16), (64, 64), (10_000, 32)])
def test_an_epoch_visits_every_labelled_spot_once(batch_size, patch_size):
    spots = stacked([9, 14])
    labelled = np.flatnonzero(~torch.isnan(spots.labels).numpy())
    batches = Batches(labelled_patches(spots, patch_size), batch_size, 3, spots.batch)
    for _ in range(3):
        seen = list(batches)
        centres = torch.cat([b["image"][b["neighbours"][:, 0], 0] for b in seen]).int().numpy()
        np.testing.assert_array_equal(np.sort(centres), labelled)
        assert not any(torch.isnan(b["labels"]).any() for b in seen)
        sizes = [len(b["labels"]) for b in seen]
        assert max(sizes) < batch_size + patch_size
        assert min(sizes[:-1], default=batch_size) >= batch_size


def test_the_seed_alone_orders_the_batches_and_no_batch_is_one_spot():
    def order(seed, epochs=2):
        batches = Batches(np.arange(13)[:, None], 4, seed, np.ndarray.tolist)
        return [list(batches) for _ in range(epochs)]

    first = order(5)
    torch.manual_seed(99)
    assert order(5) == first
    assert order(6) != first
    assert first[0] != first[1], "every epoch has the same order"
    assert [len(rows) for rows in first[0]] == [4, 4, 5]
    assert [len(rows) for rows in Batches(np.arange(13)[:, None], 4, 5, np.ndarray.tolist, 1)] == [4, 4, 4, 1]


FOLD = Fold("A", ("B1", "C1"), ("A1", "A2"))


def features_of(cohort, pictures=None, fold=FOLD, **params):
    return fold_features(fold, cohort, pictures, SpaCRDParams(**params))


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
    train, test = features_of(cohort, pictures, genes=12)
    names = [(s.name, s.patient) for s in train + test]
    assert names == [("B1", "B"), ("C1", "C"), ("A1", "A"), ("A2", "A")]
    chosen = variable_genes([cohort["B1"], cohort["C1"]], shared_genes(list(cohort.values())), 12)
    for found in train + test:
        section = cohort[found.name]
        np.testing.assert_array_equal(found.genes, expression(section, chosen))
        np.testing.assert_array_equal(found.marker, expression(section, ["ERBB2"])[:, 0])
        np.testing.assert_array_equal(found.image, pictures[found.name])
        np.testing.assert_array_equal(found.labels, section.obs["label"])
        assert found.spots.tolist() == section.obs_names.tolist()


def test_no_count_of_the_test_section_reaches_training(cohort, pictures):
    before, own = features_of(cohort, pictures, genes=8)
    random = np.random.default_rng(5)
    for name in FOLD.test:
        counts = cohort[name].X.toarray()
        # the genes of the test section that vary most are now others
        cohort[name] = with_counts(cohort[name], random.permuted(counts[:, ::-1], axis=0))
    after, changed = features_of(cohort, pictures, genes=8)
    assert all(equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(equal(a, b) for a, b in zip(own, changed, strict=True))
    for name in FOLD.train:
        cohort[name] = with_counts(cohort[name], cohort[name].X.toarray()[:, ::-1])
    others, _ = features_of(cohort, pictures, genes=8)
    assert not np.array_equal(before[0].genes, others[0].genes), "training chooses the genes"


def test_labels_of_the_test_section_reach_nothing_but_its_own_labels(cohort, pictures):
    before, own = features_of(cohort, pictures, genes=8)
    for name in FOLD.test:
        cohort[name].obs["label"] = 1 - cohort[name].obs["label"]
    after, changed = features_of(cohort, pictures, genes=8)
    assert all(equal(a, b) for a, b in zip(before, after, strict=True))
    for a, b in zip(own, changed, strict=True):
        assert equal(a, dataclasses.replace(b, labels=a.labels))


def test_a_gene_the_test_section_lacks_is_not_used(cohort):
    lacking = list(cohort["A1"].var_names[2:])
    cohort["A1"] = cohort["A1"][:, lacking].copy()
    train, test = features_of(cohort, genes=25)
    assert {s.genes.shape[1] for s in train + test} == {23}
    assert test[0].marker is None
    assert train[0].marker is not None


def test_a_patient_on_both_sides_raises(cohort):
    with pytest.raises(ValueError, match="patient A is in training and in test"):
        features_of(cohort, fold=Fold("x", ("A1", "B1"), ("A2",)))


@pytest.mark.parametrize(
    ("label", "counts"),
    [(0, "0 cancer and 118 other"), (1, "118 cancer and 0 other"), (np.nan, "0 cancer and 0 other")],
)
def test_training_sections_of_one_class_raise(cohort, label, counts):
    for name in FOLD.train:
        known = cohort[name].obs["label"].notna()
        cohort[name].obs.loc[known, "label"] = np.float32(label)
    with pytest.raises(ValueError, match=rf"fold A: the training sections B1, C1 have {counts} spots"):
        features_of(cohort, genes=5)


def test_undetermined_spots_can_count_as_negative(cohort):
    train, _ = features_of(cohort, genes=5)
    assert np.isnan(train[0].labels).nonzero()[0].tolist() == [5]
    train, test = features_of(cohort, genes=5, undetermined="negative")
    assert train[0].labels[5] == test[0].labels[5] == 0


def test_no_neighbour_across_a_gap_unless_released(cohort):
    xy = cohort["B1"].obsm["spatial"]
    xy[xy[:, 0] > 225, 0] += 5000
    xy += np.random.default_rng(0).uniform(-0.4, 0.4, xy.shape)
    train, _ = features_of(cohort, genes=5)
    side = xy[:, 0] > 225
    assert (side[train[0].neighbours] == side[:, None]).all()
    np.testing.assert_array_equal(train[0].neighbours, nearest(xy, 7, radius=2.2 * 50))
    anywhere = train[0].tensors("minmax", image=False, genes=True, anywhere=True)
    np.testing.assert_array_equal(anywhere.neighbours, nearest(np.rint(xy), 7))
    assert not np.array_equal(anywhere.neighbours, nearest(xy, 7)), "the authors' positions are whole pixels"
