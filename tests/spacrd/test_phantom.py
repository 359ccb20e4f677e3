import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lib.files import sha256_of
from lib.spacrd.cohort import read_section, read_table
from lib.spacrd.phantom import TUMOUR_GENES, write_cohort
from lib.spacrd.pictures import open_picture


def hashes(folder):
    return {path.relative_to(folder): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("platform", ["st", "visium"])
def test_same_seed_same_bytes(tmp_path, platform):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        small = {"patients": 2, "spots_side": 6, "genes": 60}
        table = write_cohort(tmp_path / name, seed=seed, platform=platform, **small)
    pd.testing.assert_frame_equal(table, read_table(tmp_path / "c" / "sections.csv"))
    a, b, c = (hashes(tmp_path / name) for name in "abc")
    assert a == b
    assert {path.name for path in a if a[path] == c.get(path)} <= {"sections.csv", "scalefactors_json.json"}


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Cohorts almost as large as the study makes them: planted, null, no effect, and the second platform."""
    made = {}
    wanted = {
        "planted": {"seed": 11},
        "null": {"seed": 11, "null": True},
        "strong null": {"seed": 11, "effect": 3.0, "null": True, "patients": 2},
        "none": {"seed": 11, "effect": 0.0, "patients": 2},
        "second": {"seed": 11, "platform": "visium", "patients": 2},
    }
    for name, kwargs in wanted.items():
        folder = tmp_path_factory.mktemp(name)
        table = write_cohort(folder, **{"patients": 4, "spots_side": 15, **kwargs})
        made[name] = [described(read_section(row, folder), folder) for row in table.to_dict("records")]
    return made


def described(section, folder):
    about = section.uns["section"]
    picture = open_picture(folder / about["picture"])
    scale = about["picture_scale"][0]
    half = round(75 / (about["um_per_px"] / scale))
    looks = []
    for x, y in (section.obsm["spatial"] * scale).round().astype(int):
        crop = picture[max(0, y - half) : y + half, max(0, x - half) : x + half].astype(float)
        looks.append([*crop.mean((0, 1)), *crop.std((0, 1)), *np.percentile(crop[..., 0], [5, 20, 50])])
    counts = section.X.toarray()
    genes = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    label = section.obs["label"].to_numpy()
    return {"section": section, "genes": genes, "picture": np.array(looks), "label": label}


def scaled(values):
    return (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)


def left_out_auc(cohort, parts):
    """Mean AUC over left-out patients of a linear model of single spots."""
    stacked = {part: [scaled(one[part]) for one in cohort] for part in parts}
    scores = []
    for held_out, one in enumerate(cohort):
        features = [[] for _ in cohort]
        for part in parts:
            training = [values for i, values in enumerate(stacked[part]) if i != held_out]
            axes = PCA(9, random_state=0).fit(np.vstack(training))
            for columns, values in zip(features, stacked[part], strict=True):
                columns.append(axes.transform(values) / axes.transform(values).std())
        features = [np.hstack(columns) for columns in features]
        label = np.concatenate([c["label"] for i, c in enumerate(cohort) if i != held_out])
        seen = np.vstack([f for i, f in enumerate(features) if i != held_out])
        model = LogisticRegression(max_iter=500).fit(seen[np.isfinite(label)], label[np.isfinite(label)])
        known = np.isfinite(one["label"])
        scores.append(roc_auc_score(one["label"][known], model.decision_function(features[held_out])[known]))
    return np.mean(scores)


def test_each_modality_is_informative_and_imperfect_and_both_are_better(cohorts):
    parts = (["genes"], ["picture"], ["genes", "picture"])
    genes, picture, both = (left_out_auc(cohorts["planted"], some) for some in parts)
    assert 0.68 < min(genes, picture) <= max(genes, picture) < 0.92
    assert max(genes, picture) + 0.02 < both < 0.97


def test_a_null_has_nothing_to_find(cohorts):
    for parts in (["genes"], ["picture"], ["genes", "picture"]):
        assert left_out_auc(cohorts["null"], parts) == pytest.approx(0.5, abs=0.1)


def test_the_null_keeps_its_own_tumour_domains(cohorts):
    """Counts and picture of a null agree with each other; without an effect they do not; only its labels know nothing."""

    def agreement(cohort):
        values = []
        for one in cohort:
            tumour = one["section"].var_names.isin(TUMOUR_GENES)
            values.append(np.corrcoef(one["genes"][:, tumour].mean(axis=1), one["picture"][:, 0])[0, 1])
        return np.mean(values)

    assert agreement(cohorts["strong null"]) < -0.4, "dark where the tumour genes are high"
    assert abs(agreement(cohorts["none"])) < 0.2


def test_the_second_platform_differs_and_overlaps(cohorts):
    (first, *_), (second, *_) = cohorts["planted"], cohorts["second"]
    a, b = first["section"], second["section"]
    shared = set(a.var_names) & set(b.var_names)
    assert a.n_vars == b.n_vars == 400
    assert 250 < len(shared) < 350
    assert "ERBB2" in shared
    assert 20 <= len(shared & set(TUMOUR_GENES)) < len(TUMOUR_GENES)
    about = [one.uns["section"] for one in (a, b)]
    sizes = [(one["pitch_um"], one["spot_diameter_um"], one["patient"]) for one in about]
    assert sizes == [(200, 100, "A"), (100, 55, "VA")]
    depth = [np.median(np.asarray(one.X.sum(axis=1))) for one in (a, b)]
    assert depth[1] > 1.5 * depth[0]
    assert np.abs(first["picture"][:, :3].mean(axis=0) - second["picture"][:, :3].mean(axis=0)).max() > 8
    # the hexagonal grid: an inner spot has six neighbours at one pitch
    xy = b.obsm["spatial"]
    number = [len(near) - 1 for near in cKDTree(xy).query_ball_point(xy, 1.1 * about[1]["pitch_px"])]
    assert np.median(number) == 6
