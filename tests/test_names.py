"""Names of what people read: one list, and no contender, metric, setting or cohort without an entry."""

import importlib
import re

import pandas as pd
import pytest
import yaml

from lib import names, results
from lib.statistics.calibration import MEASURES
from lib.statistics.classification import METRICS
from lib.statistics.metrics_table import RISK_CUTS, SPOT_CUTS


def contenders(root):
    for path in sorted(root.glob("lib/*/params.py")):
        module = importlib.import_module(f"lib.{path.parent.name}.params")
        yield path.parent.name, module.MODELS if path.parent.name == "gcmlm" else module.CONTENDERS


def settings(root):
    for path in sorted(root.glob("params/*/*.yaml")):
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = given.get("settings") or given.get("models")
        yield from found if isinstance(found, dict) else ()
        yield from given.get("cancers") or ()


def test_every_contender_has_a_name_of_its_own(root):
    for study, found in contenders(root):
        lacking = [model for model in found if not names.known(model, "models")]
        assert lacking == [], study
        assert len({names.name(model) for model in found}) == len(found), study
    fused = ("signature: clinical+ct+pet", "attention: slide", "mcat:AMIL", "cox-clinical", "kaplan-meier")
    assert all(names.known(model, "models") for model in fused)


def test_every_metric_setting_cut_and_cohort_has_a_name(root):
    metrics = [
        *METRICS,
        "c_index",
        "c_index_ipcw",
        "ibs",
        "auc_t_36",
        "brier_t_12",
        *(f"{m}_36" for m in MEASURES),
    ]
    metrics += [f"f1_{rule}" for rule in (*SPOT_CUTS, "cut", "half")] + [
        f"logrank_p_{cut}" for cut in RISK_CUTS
    ]
    for path in (root / results.KEPT).glob("*/*/metrics.csv"):
        table = results.read(path)
        metrics += list(table["metric"])
        assert [model for model in table["model"].unique() if not names.known(model, "models")] == [], path
        assert [one for one in table["setting"].unique() if not names.known(one, "settings")] == [], path
    assert [metric for metric in metrics if not names.known(metric, "metrics")] == []
    assert [one for one in settings(root) if not names.known(one, "settings")] == []
    cohorts = {path.stem for path in root.glob("params/*/*.yaml")}
    assert [cohort for cohort in sorted(cohorts) if not names.known(cohort, "cohorts")] == []
    assert set(RISK_CUTS) <= set(names.lists()["cuts"])


def test_no_name_is_an_identifier_and_none_is_given_twice_in_a_list():
    for kind, entries in names.lists().items():
        assert [words for words in entries.values() if re.search(r"[a-z]_[a-z]", words)] == [], kind
        if kind not in ("models", "settings"):  # the studies share some, and the bench fuses as they do
            assert len(set(entries.values())) == len(entries), kind


@pytest.mark.parametrize(
    ("identifier", "kind", "said"),
    [
        ("auc_t_36", "metrics", "AUC at 36 months"),
        ("sensitivity_cut", "metrics", "Sensitivity, frozen cut"),
        ("signature: clinical+ct", "models", "Signature: clinic + CT"),
        ("concat+offset", "models", "Concatenation on top of the clinic"),
        ("pictures, pathologist's labels", "settings", "counts and pictures, pathologist's labels"),
        ("luad", "settings", "Lung, adenocarcinoma"),
        ("st-marys-2024", "cohorts", "st-marys-2024"),
    ],
)
def test_an_identifier_is_named_exactly_by_its_pattern_or_not_at_all(identifier, kind, said):
    assert names.name(identifier, kind) == said


def test_a_table_and_a_label_are_named_and_what_is_unknown_stays():
    table = pd.DataFrame(
        {"model": ["age", "mine"], "auc_t_36": [0.5, 0.6], "setting": ["blca", None], "x": [1, 2]}
    )
    shown = names.named(table)
    assert list(shown) == ["Model", "AUC at 36 months", "Setting", "x"]
    assert shown["Model"].tolist() == ["Age", "mine"]
    assert shown["Setting"].iloc[0] == "Bladder"
    assert table["model"].tolist() == ["age", "mine"]
    assert names.label("spacrd, genes") == "SpaCRD, counts alone"
    assert names.label("n = 3, m") == "n = 3, m"
