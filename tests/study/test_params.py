"""Parameters are checked before anything runs, and the demo is written down once in three places."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from lib.crossfusion import params as crossfusion
from lib.features.radiomics import PRESETS
from lib.gcmlm import params as gcmlm
from lib.gcmlm.cohort import WHEN
from lib.gcmlm.slides import RULES
from lib.gcmlm.tables import CLINICAL
from lib.gcmlm.train import FUSIONS
from lib.inputs.clinical import SETS
from lib.params import Checked, check, given, literal_cell, load, schema_of
from lib.spacrd import params as spacrd
from lib.spacrd.features import SCALINGS
from lib.spacrd.params import SpaCRDParams
from lib.spacrd.train import CONTENDERS
from lib.stroke import params as stroke
from lib.stroke import train as stroke_contenders
from lib.stroke.perfusion import Settings
from lib.stroke.train import QUIRKS, Recipe

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "params").glob("*/*.yaml"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.ipynb"))
STUDIES = sorted({path.parent.name for path in FILES})


class Inner(Checked):
    weight: float = 1.0


class Params(Checked):
    """A small schema."""

    cohort: str = "demo"
    epochs: int = 3
    seeds: list[int] = [1]
    inner: Inner = Inner()
    settings: dict[str, Inner] = {}


def faults(text: str, folder: Path, name: str = "demo", schema=Params) -> str:
    """The sentence a parameter file is refused with."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:  # noqa: PT011, the callers look at the message
        load(path, schema)
    return str(refused.value)


def test_good_file_is_read_over_the_defaults(tmp_path):
    (tmp_path / "demo.yaml").write_text("epochs: 5\ninner: {weight: 2}\n")
    params = load(tmp_path / "demo.yaml", Params)
    assert (params.epochs, params.inner.weight, params.seeds) == (5, 2.0, [1])
    (tmp_path / "demo.yaml").write_text("")
    assert load(tmp_path / "demo.yaml", Params) == Params()


def test_checked_parameters_do_not_change_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        Params().epochs = 4


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("epohcs: 3", "'epohcs'", "'epochs'"),
        ("seed: [3]", "'seed'", "'seeds'"),
        ("inner: {wieght: 3}", "'inner.wieght'", "'weight'"),
        ("settings: {genes: {weights: 3}}", "'settings.genes.weights'", "'weight'"),
    ],
)
def test_unknown_key_names_the_file_and_the_nearest_valid_one(text, wrong, nearest, tmp_path):
    said = faults(text, tmp_path)
    assert said == f"demo.yaml: unknown parameter {wrong}: did you mean {nearest}?"


def test_key_like_no_other_is_answered_with_all_valid_ones(tmp_path):
    said = faults("zzz: 3", tmp_path)
    assert "unknown parameter 'zzz'" in said
    assert all(name in said for name in Params.model_fields)


@pytest.mark.parametrize(
    ("text", "key", "got"),
    [
        ("epochs: many", "'epochs'", "'many'"),
        ("epochs: 2.5", "'epochs'", "2.5"),
        ("epochs:", "'epochs'", "None"),
        ("seeds: 3", "'seeds'", "3"),
        ("seeds: [1, two]", "'seeds.1'", "'two'"),
        ("inner: {weight: heavy}", "'inner.weight'", "'heavy'"),
    ],
)
def test_wrong_type_names_file_key_and_value(text, key, got, tmp_path):
    said = faults(text, tmp_path)
    assert said.startswith("demo.yaml: ")
    assert f"parameter {key}: " in said
    assert said.endswith(f"got {got}")


def test_every_fault_is_told_at_once(tmp_path):
    said = faults("epohcs: 3\nseeds: 4\n", tmp_path)
    assert "'epohcs'" in said
    assert "'seeds'" in said
    assert "\n" not in said


def test_missing_file_is_named_with_the_nearest_that_is_there(tmp_path):
    (tmp_path / "her2st.yaml").write_text("")
    with pytest.raises(FileNotFoundError, match=r"her2ts\.yaml: no such parameter file.*'her2st'"):
        load(tmp_path / "her2ts.yaml", Params)


def test_yaml_that_cannot_be_read_is_one_sentence(tmp_path):
    said = faults("cohort: demo\nseeds: [1, 2\nepochs: 3\n", tmp_path)
    assert said.startswith("demo.yaml: not valid YAML: ")
    assert "line 3" in said
    assert "\n" not in said


@pytest.mark.parametrize("text", ["- epochs", "epochs", "3"])
def test_file_without_keys_is_refused(text, tmp_path):
    assert "expected `key: value` lines" in faults(text, tmp_path)


def test_cohort_must_be_the_files_name(tmp_path):
    said = faults("cohort: demo", tmp_path, "her2st")
    assert said == "her2st.yaml: cohort is 'demo', but the file is named 'her2st': make them one"


def test_unknown_study_names_the_nearest(tmp_path):
    assert schema_of("spacrd") is SpaCRDParams
    with pytest.raises(ValueError, match=r"'spacrdd' is unknown: did you mean 'spacrd'"):
        schema_of("spacrdd")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_parameter_file_of_the_repository_is_valid(path):
    params = load(path)
    assert params.cohort == path.stem
    lacking = set(type(params).model_fields) - set(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert lacking == set(), "a file says everything: a default that changes must not change a cohort"


def test_every_parameter_file_is_there():
    names = {path.stem for path in FILES if path.parent.name == "spacrd"}
    assert {"demo", "null", "her2st", "transfer", "crc", "vihbc", "idc", "xehbc"} <= names
    names = {path.stem for path in FILES if path.parent.name == "gcmlm"}
    assert {"demo", "null", "lro", "stad", "matched"} <= names


# the cells of a notebook


def test_literal_cell_is_nothing_but_literals():
    source = '# a comment\na = 1\nb = {"x": [1.5, None], "y": (True, -2)}\n\nc = "text"'
    assert literal_cell(source) == {"a": 1, "b": {"x": [1.5, None], "y": (True, -2)}, "c": "text"}


@pytest.mark.parametrize(
    "source",
    [
        "",
        "# only a comment",
        "import numpy",
        "a = 1\nprint(a)",
        "a = 1\nb = a",
        "a = open('x')",
        "a.b = 1",
        "a = [",
        "%matplotlib inline",
        "a += 1",
    ],
)
def test_any_other_cell_is_not(source):
    assert literal_cell(source) is None


def run_cells(*sources: str) -> dict:
    """The namespace of a kernel that has executed these cells."""
    namespace = {"In": [""]}
    for source in sources:
        namespace["In"].append(source)
        exec(source, namespace)
    return namespace


def test_given_are_the_parameters_of_the_executed_cells():
    namespace = run_cells(
        "epochs = 3\nseeds = [1]", "# Parameters\nepochs = 5\n", "import math\ntau = math.tau"
    )
    assert given(namespace, Params) == {"epochs": 5, "seeds": [1]}


def test_parameter_that_the_notebook_does_not_know_is_found_and_refused():
    namespace = run_cells("epochs = 3\nseeds = [1]", "# Parameters\nepohcs = 5\n", "import math")
    assert given(namespace, Params) == {"epochs": 3, "seeds": [1], "epohcs": 5}
    with pytest.raises(ValueError, match=r"3-train: unknown parameter 'epohcs': did you mean 'epochs'\?"):
        check(given(namespace, Params), Params, "3-train")


def test_outside_a_notebook_the_schemas_own_names_are_taken():
    assert given({"epochs": 9, "other": 1, "__name__": "x"}, Params) == {"epochs": 9}


# one truth: schema, demo.yaml, tagged cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_parameters_cell_is_the_schemas_defaults(path):
    cells = nbformat.read(path, as_version=4).cells
    (source,) = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    found, defaults = literal_cell(source), schema_of(path.parent.name)().model_dump(mode="json")
    assert found == defaults
    assert list(found) == list(defaults)
    # 1 == 1.0 == True: types too
    assert repr(found) == repr(defaults)


@pytest.mark.parametrize("study", STUDIES)
def test_demo_is_the_schemas_defaults(study):
    found = yaml.safe_load((ROOT / "params" / study / "demo.yaml").read_text(encoding="utf-8"))
    defaults = schema_of(study)().model_dump(mode="json")
    assert found == defaults
    assert repr(found) == repr(defaults)


def test_every_stage_has_a_notebook():
    stages = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
    assert [path.stem for path in NOTEBOOKS if path.parent.name == "spacrd"] == stages
    assert [path.stem for path in NOTEBOOKS if path.parent.name == "stroke"] == stages
    assert [path.stem for path in NOTEBOOKS if path.parent.name == "gcmlm"] == stages
    assert {path.stem for path in NOTEBOOKS if path.parent.name == "crossfusion"} <= set(stages)


def test_names_written_out_in_the_schema_are_those_of_the_code():
    assert sorted(spacrd.CONTENDERS) == sorted(CONTENDERS)
    assert spacrd.SCALINGS == SCALINGS
    assert sorted(stroke.CONTENDERS) == sorted(stroke_contenders.CONTENDERS)
    assert stroke.QUIRKS == QUIRKS
    assert tuple(SETS) == stroke.SETTINGS
    assert tuple(FUSIONS) == gcmlm.MODELS
    assert gcmlm.CLINICAL == CLINICAL
    choices = {"lro_when": WHEN, "radiomics_preset": PRESETS, "pooling": RULES}
    for field, known in choices.items():
        assert set(gcmlm.GastricParams.model_fields[field].annotation.__args__) == set(known)


def test_preparation_and_recipe_of_the_stroke_study_are_those_of_the_code():
    assert tuple(stroke.Preparation.model_fields) == Settings._fields
    assert Settings(**stroke.Preparation().model_dump())
    fields = [name for name in Recipe.__dataclass_fields__ if name != "quirks"]
    assert [name for name in stroke.StrokeParams.model_fields if name in fields] == fields
    schedule = stroke.StrokeParams.model_fields["schedule"].annotation
    assert set(schedule.__args__) == {"warm_restarts", "one_fall"}


def test_checking_a_file_does_not_load_torch():
    code = (
        "import sys; from lib.params import load; load('params/spacrd/demo.yaml');"
        "print(sorted({'torch', 'scanpy', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line_is_silent_or_says_one_sentence(tmp_path):
    def run(path):
        command = [sys.executable, "-m", "lib.params", str(path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    good = run("params/spacrd/demo.yaml")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    (tmp_path / "spacrd").mkdir()
    (tmp_path / "spacrd" / "mine.yaml").write_text("cohort: mine\nlearning_rte: 0.1\n")
    bad = run(tmp_path / "spacrd" / "mine.yaml")
    assert bad.returncode == 1
    assert bad.stderr.strip() == "mine.yaml: unknown parameter 'learning_rte': did you mean 'learning_rate'?"


# what the SpaCRD schema refuses beyond types


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"phantom": None}, "give either `phantom` or `sections`"),
        ({"sections": ["data/cohorts/spacrd/her2st.csv"]}, "give either `phantom` or `sections`"),
        (
            {"phantom": None, "sections": ["data/cohorts/none.csv"]},
            "no section table at data/cohorts/none.csv",
        ),
        ({"settings": {"both": {"encoder": "uni"}}}, "setting 'both' uses encoder 'uni'"),
        ({"settings": {"none": {"encoder": "", "genes": False}}}, "neither an encoder nor genes"),
        ({"shard": 2, "shards": 2}, "shard 2 of 2 shards does not exist"),
        ({"models": ["spacrb"]}, "'spacrd'"),
        ({"seeds": []}, "parameter 'seeds'"),
        ({"bootstrap_draws": 10}, "parameter 'bootstrap_draws'"),
        ({"learning_rate": 0}, "parameter 'learning_rate'"),
        ({"cohort": "HER2ST"}, "parameter 'cohort'"),
        ({"phantom": {"patient": 3}}, "did you mean 'patients'"),
        ({"settings": {"both": {"section": []}}}, "did you mean 'sections'"),
        ({"epohcs": 3}, "unknown parameter 'epohcs'"),
    ],
)
def test_spacrd_refuses(values, said):
    with pytest.raises(ValueError, match=r"^here: ") as refused:
        check(values, SpaCRDParams, "here")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"phantom": None}, "give either `phantom` or `outcomes`"),
        ({"slides": "tcga/slides"}, "give either `phantom` or `outcomes`"),
        ({"outcomes": "tcga/x.csv"}, "give either `phantom` or `outcomes`"),
        ({"phantom": None, "outcomes": "x.csv"}, "which comes from `clinical_table`"),
        (
            {"phantom": None, "outcomes": "x.csv", "clinical": ["age"]},
            'only a phantom has "planted" predictions',
        ),
        ({"horizons": [36.0, 12.0]}, "in ascending order"),
        ({"horizons": [0.0, 12.0]}, "months above 0"),
        ({"clinical": ["smoker"]}, "parameter 'clinical.0'"),
        ({"shard": 2, "shards": 2}, "shard 2 of 2 shards does not exist"),
    ],
)
def test_crossfusion_refuses(values, said):
    with pytest.raises(ValueError, match=r"^here: ") as refused:
        check(values, crossfusion.CrossFusionParams, "here")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


LATE = {"admission": ["late-fusion", "ctp", "clinical-branch"]}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"phantom": None}, "give exactly one of `phantom`, `isles`"),
        ({"isles": "isles24/train"}, "give exactly one of `phantom`, `isles`"),
        (
            {"phantom": None, "isles": "a", "arrays": "b", "arrays_clinical": "b.csv"},
            "give exactly one of `phantom`, `isles`",
        ),
        ({"phantom": None, "arrays": "b"}, "`arrays` and `arrays_clinical`"),
        ({"arrays_clinical": "b.csv"}, "`arrays` and `arrays_clinical`"),
        ({"partition": "split.yaml"}, "`partition` names patients of `arrays`, and there are none"),
        ({"shape": [16, 24, 16]}, "`shape` has a side of 24"),
        ({"shape": [16, 16, 0]}, "`shape` has a side of 0"),
        ({"shape": [16, 16]}, "parameter 'shape"),
        ({"inner_folds": 1}, "`inner_folds` is 1"),
        ({"inner_folds": -1}, "parameter 'inner_folds'"),
        ({"models": {"admission": ["late-fusion", "ctp"]}}, "late-fusion is made of ctp and clinical-branch"),
        (
            {"models": LATE | {"postprocedural": ["late-fusion", "clinical-branch"]}},
            "models of postprocedural: late-fusion",
        ),
        (
            {"models": LATE, "seeds": [1, 2], "first_seed_only": ["ctp"]},
            "`first_seed_only` has ctp: late-fusion needs ctp and clinical-branch of the same seeds",
        ),
        ({"models": {"admission": ["fussion"]}}, "parameter 'models.admission.0'"),
        ({"models": {"at_home": ["fusion"]}}, "'admission'"),
        ({"schedule": "two_falls"}, "parameter 'schedule'"),
        ({"preparation": {"frame": 32}}, "did you mean 'frames'"),
        ({"preparation": {"baseline": "lost"}}, "parameter 'preparation.baseline"),
        ({"phantom": {"effect": -1}}, "parameter 'phantom.effect'"),
        ({"unfavourable_from": 7}, "parameter 'unfavourable_from'"),
        ({"dropout": 1}, "parameter 'dropout'"),
        ({"shard": 2, "shards": 2}, "shard 2 of 2 shards does not exist"),
    ],
)
def test_stroke_refuses(values, said):
    with pytest.raises(ValueError, match=r"^here: ") as refused:
        check(values, stroke.StrokeParams, "here")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"phantom": None, "isles": "isles24/train"},
        {"phantom": None, "arrays": "b", "arrays_clinical": "b.csv", "partition": "b.yaml"},
        {"shape": [512, 512, 16], "inner_folds": 2},
        {"models": LATE, "seeds": [1], "first_seed_only": ["ctp"]},
        {"models": LATE, "seeds": [1, 2], "first_seed_only": ["ctp", "clinical-branch"]},
        {"models": {"postprocedural": ["ctp"]}},
    ],
)
def test_stroke_accepts(values):
    assert check(values, stroke.StrokeParams, "here")


ELSEWHERE = {"phantom": None, "matched_cohort": "own"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"phantom": None}, "give exactly one of `phantom`, `matched_cohort` (its folder), `lro_folder` and"),
        ({"matched_cohort": "own"}, "give exactly one of `phantom`, `matched_cohort`"),
        ({"lro_folder": "ct/lro_headneck"}, "give exactly one of `phantom`, `matched_cohort`"),
        (ELSEWHERE | {"stad_table": "cdr.csv"}, "give exactly one of `phantom`, `matched_cohort`"),
        ({"modalities": ["clinical", "ct", "ct"]}, "`modalities` names one twice: clinical, ct, ct"),
        ({"modalities": ["clinical", "ct+slide"]}, "`modalities` has 'ct+slide': a name has no + and is not"),
        ({"modalities": ["clinical", ""]}, "`modalities` has '': a name has no +"),
        ({"modalities": []}, "parameter 'modalities'"),
        (
            ELSEWHERE | {"feature_tables": {"pet": "pet.csv"}},
            "`feature_tables` has pet, which `modalities` does not name",
        ),
        ({"factors": []}, "`modalities` has clinical, but `factors` names no column"),
        ({"phantom": {"patients": 23}}, "parameter 'phantom.patients'"),
        ({"phantom": {"external": -1}}, "parameter 'phantom.external'"),
        ({"phantom": {"effect": 1.1}}, "parameter 'phantom.effect'"),
        ({"phantom": {"patient": 40}}, "did you mean 'patients'"),
        ({"models": ["signatur"]}, "parameter 'models.0'"),
        ({"models": []}, "parameter 'models'"),
        ({"seeds": []}, "parameter 'seeds'"),
        ({"folds": 1}, "parameter 'folds'"),
        ({"inner_folds": 1}, "parameter 'inner_folds'"),
        ({"radiomics_preset": "slice"}, "parameter 'radiomics_preset'"),
        ({"pooling": "mean"}, "parameter 'pooling'"),
        ({"oblique": "ignore"}, "parameter 'oblique'"),
        ({"masks": "nnunnet"}, "parameter 'masks'"),
        ({"tiling": "clam"}, "parameter 'tiling'"),
        ({"scale": 40}, "parameter 'scale'"),
        ({"lro_when": "before"}, "parameter 'lro_when'"),
        ({"least_tissue": 1.5}, "parameter 'least_tissue'"),
        ({"earliest_months": -1}, "parameter 'earliest_months'"),
        ({"bootstrap_draws": 99}, "parameter 'bootstrap_draws'"),
        ({"resamples": 9}, "parameter 'resamples'"),
        ({"max_failed": -1}, "parameter 'max_failed'"),
        ({"cohort": "Matched"}, "parameter 'cohort'"),
        ({"modality": ["ct"]}, "unknown parameter 'modality': did you mean 'modalities'?"),
        ({"shard": 2, "shards": 2}, "shard 2 of 2 shards does not exist"),
    ],
)
def test_gcmlm_refuses(values, said):
    with pytest.raises(ValueError, match=r"^here: ") as refused:
        check(values, gcmlm.GastricParams, "here")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        ELSEWHERE,
        ELSEWHERE | {"modalities": ["clinical", "pet"], "feature_tables": {"pet": "pet.csv"}},
        {
            "phantom": None,
            "lro_folder": "ct/lro_headneck",
            "modalities": ["clinical", "ct", "pet"],
            "factors": [],
        },
        {"phantom": None, "stad_table": "tcga/cdr.csv", "modalities": ["clinical"]},
        {"modalities": ["ct", "slide"], "factors": []},
        {"modalities": ["slide"], "models": ["attention"]},
        {"mask_label": "liver"},
        {"external_hospitals": []},
        {"shard": 1, "shards": 2},
    ],
)
def test_gcmlm_accepts(values):
    assert check(values, gcmlm.GastricParams, "here")
