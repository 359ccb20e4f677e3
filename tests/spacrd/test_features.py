import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from lib.spacrd.features import expression, normalise, scale, shared_genes, variable_genes

PLANTED = ("G010", "G033", "G051", "G072", "G090")


def section(name, counts, genes):
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
    return section(name, counts, names)


def test_shared_genes_are_sorted_whatever_the_order_of_sections():
    a = section("A", np.ones((2, 4)), ["TP53", "ERBB2", "ACTB", "KRT8"])
    b = section("B", np.ones((2, 3)), ["KRT8", "ERBB2", "GRB7"])
    c = section("C", np.ones((2, 3)), ["ERBB2", "KRT8", "TP53"])
    assert shared_genes([a, b, c]) == shared_genes([c, a, b]) == shared_genes([b, c, a]) == ["ERBB2", "KRT8"]
    assert shared_genes([a]) == ["ACTB", "ERBB2", "KRT8", "TP53"]


def test_no_shared_gene_is_an_error_that_shows_both_kinds_of_names():
    symbols = section("A", np.ones((2, 2)), ["ERBB2", "ACTB"])
    ensembl = section("B", np.ones((2, 2)), ["ENSG00000141736", "ENSG00000075624"])
    with pytest.raises(ValueError, match=r"section B shares no gene.*ENSG00000141736.*ACTB.*identifier"):
        shared_genes([symbols, ensembl])


def test_planted_genes_are_found_and_sorted():
    sections = [tissue("A", 0), tissue("B", 1)]
    candidates = list(reversed(shared_genes(sections)))
    assert variable_genes(sections, candidates, 5) == sorted(PLANTED)
    chosen = variable_genes(sections, candidates, 12)
    assert len(chosen) == 12
    assert chosen == sorted(chosen)
    assert set(PLANTED) <= set(chosen)


def test_order_of_sections_does_not_choose_the_genes():
    sections = [tissue("A", 0), tissue("B", 1, PLANTED[:2]), tissue("C", 2, PLANTED[2:])]
    genes = shared_genes(sections)
    assert variable_genes(sections, genes, 9) == variable_genes(sections[::-1], genes, 9)


def test_few_candidates_are_all_kept():
    assert variable_genes([tissue("A", 0)], ["G009", "G001"], 2) == ["G001", "G009"]


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


@pytest.mark.parametrize("as_released", [False, True])
def test_choosing_genes_leaves_the_counts_alone(as_released):
    one = tissue("A", 0)
    before = one.X.toarray()
    variable_genes([one, tissue("B", 1)], list(one.var_names), 5, as_released=as_released)
    np.testing.assert_array_equal(one.X.toarray(), before)


@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
def test_normalise_equals_a_naive_loop():
    counts = np.random.default_rng(0).poisson(0.7, (12, 9)).astype(np.float32)
    counts[4] = 0
    naive = np.zeros(counts.shape)
    for i, row in enumerate(counts):
        if row.sum():
            for j, count in enumerate(row):
                naive[i, j] = np.log(1 + 10_000 * count / row.sum())
    before = counts.copy()
    found = normalise(sparse.csr_matrix(counts))
    np.testing.assert_allclose(found.toarray(), naive, rtol=1e-5)
    assert not found.toarray()[4].any()
    assert found.dtype == np.float32
    matrix = sparse.csr_matrix(counts)
    normalise(matrix)
    np.testing.assert_array_equal(matrix.toarray(), before)


def test_expression_divides_by_the_total_of_all_genes():
    one = section("A", [[1, 3, 0], [0, 0, 5]], ["a", "b", "c"])
    found = expression(one, ["c", "a"])
    np.testing.assert_allclose(found, np.log1p([[0, 2500], [10_000, 0]]), rtol=1e-5)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32


def test_expression_of_a_missing_gene_is_an_error():
    with pytest.raises(ValueError, match=r"section A lacks 2 of 3 genes, first \['ERBB2', 'XYZ'\]"):
        expression(section("A", [[1, 2]], ["a", "b"]), ["ERBB2", "a", "XYZ"])


def test_minmax_spans_0_to_1_and_a_constant_column_is_0():
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) * [1, 10, 0.01, 0]
    features[:, 3] = 7.3
    scaled = scale(features, "minmax")
    np.testing.assert_array_equal(scaled.min(0), 0)
    np.testing.assert_array_equal(scaled.max(0), [1, 1, 1, 0])
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scale(3 * features - 5, "minmax"), scaled, atol=1e-5)


def test_zscore_has_mean_0_and_deviation_1_and_a_constant_column_is_0():
    features = np.random.default_rng(0).normal(3, 5, size=(101, 3)).astype(np.float32)
    features[:, 2] = 0.1  # its float32 mean is not exactly 0.1
    scaled = scale(features, "zscore")
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0)[:2], 1, rtol=1e-4)
    np.testing.assert_allclose(scaled[:, 2], 0, atol=1e-3)


def test_robust_ignores_one_outlier_that_sets_the_scale_of_minmax():
    column = np.linspace(0, 1, 400)[:, None]
    spoiled = column.copy()
    spoiled[7] = 1000
    others = np.arange(400) != 7
    assert scale(spoiled, "minmax")[others].max() < 0.01
    np.testing.assert_allclose(scale(spoiled, "robust")[others], scale(column, "robust")[others], atol=0.02)
    assert scale(spoiled, "robust")[7] == 1
    assert scale(spoiled, "robust").min() == 0


def test_robust_keeps_a_marker_seen_in_few_spots():
    rare, constant = np.zeros((400, 1)), np.full((400, 1), 2.5)
    rare[[3, 5]] = [[2], [4]]
    scaled = scale(np.hstack([rare, constant]), "robust")
    assert scaled[[3, 5], 0].tolist() == [0.5, 1]
    assert scaled[:, 0].sum() == 1.5
    assert not scaled[:, 1].any()


def test_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match=r"'min-max' is unknown.*minmax"):
        scale(np.ones((2, 2)), "min-max")
