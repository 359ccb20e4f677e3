"""Parameters are checked before anything runs; the demo is written down once; YAML has one reading."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from lib import params as params_module
from lib.params import Checked, check, literal_cell, load, of_notebook, read_yaml, schema_of

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "params").glob("*/*.yaml"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/[1-5]-*.ipynb"))
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


def fault(text: str, folder: Path, name: str = "demo") -> str:
    """The sentence a parameter file is refused with."""
    (folder / f"{name}.yaml").write_text(text)
    with pytest.raises(ValueError) as refused:  # noqa: PT011, the callers look at the message
        load(folder / f"{name}.yaml", Params)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_good_file_is_read_over_the_defaults_and_does_not_change_afterwards(tmp_path):
    (tmp_path / "demo.yaml").write_text("epochs: 5\ninner: {weight: 2}\n")
    params = load(tmp_path / "demo.yaml", Params)
    assert (params.epochs, params.inner.weight, params.seeds) == (5, 2.0, [1])
    with pytest.raises(ValueError, match="frozen"):
        params.epochs = 4
    (tmp_path / "demo.yaml").write_text("")
    assert load(tmp_path / "demo.yaml", Params) == Params()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epohcs: 3", "demo.yaml: unknown parameter 'epohcs': did you mean 'epochs'?"),
        ("inner: {wieght: 3}", "demo.yaml: unknown parameter 'inner.wieght': did you mean 'weight'?"),
        (
            "settings: {genes: {weights: 3}}",
            "unknown parameter 'settings.genes.weights': did you mean 'weight'?",
        ),
        ("zzz: 3", "known are cohort, epochs, seeds"),
        ("epochs: many", "parameter 'epochs': Input should be a valid integer"),
        ("epochs: true", "parameter 'epochs': a number is expected, got True"),
        ("inner: {weight: .nan}", "parameter 'inner.weight'"),
        ("cohort: demo\nseeds: [1, 2\nepochs: 3\n", "demo.yaml is not valid YAML"),
        ("- epochs", "expected `key: value` lines"),
        ("cohort: other", "cohort is 'other', but the file is named 'demo'"),
        ("seeds: [1]\nepochs: 3\nseeds: [2]\n", "line 3 has the key 'seeds' twice"),
    ],
)
def test_wrong_file_is_refused_in_one_sentence(text, said, tmp_path):
    assert said in fault(text, tmp_path)


def test_every_fault_is_told_at_once_and_a_missing_file_with_the_nearest(tmp_path):
    said = fault("epohcs: 3\nseeds: 4\n", tmp_path)
    assert "'epohcs'" in said
    assert "'seeds'" in said
    (tmp_path / "her2st.yaml").write_text("")
    with pytest.raises(FileNotFoundError, match=r"her2ts\.yaml: no such parameter file.*'her2st'"):
        load(tmp_path / "her2ts.yaml", Params)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_parameter_file_of_the_repository_is_valid(path):
    params = load(path)
    lacking = set(type(params).model_fields) - set(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert lacking == set(), "a file says everything: a default that changes must not change a cohort"


@pytest.mark.parametrize("study", STUDIES)
def test_demo_is_the_schemas_defaults_and_its_twin_is_there(study):
    found = yaml.safe_load((ROOT / "params" / study / "demo.yaml").read_text(encoding="utf-8"))
    # 1 == 1.0 == True: types too
    defaults = schema_of(study)().model_dump(mode="json")
    assert {name: repr(value) for name, value in found.items()} == {k: repr(v) for k, v in defaults.items()}
    assert (ROOT / "params" / study / "null.yaml").is_file()
    stages = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
    assert [path.stem for path in NOTEBOOKS if path.parent.name == study] == stages


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_parameters_cell_is_of_the_demo(path):
    cells = nbformat.read(path, as_version=4).cells
    (source,) = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    found, defaults = literal_cell(source), schema_of(path.parent.name)().model_dump(mode="json")
    assert {name: repr(value) for name, value in found.items()} == {
        name: repr(defaults[name]) for name in found
    }


def test_yaml_has_one_reading(tmp_path):
    path = tmp_path / "p.yaml"

    def read(text, **settings):
        path.write_text(text, encoding="utf-8")
        return read_yaml(path, **settings)

    text = "\ufeffa: 1\nb: [0.5, 1e-3, yes, null]\nc: {d: '012', e: x}\n"
    assert read(text) == {"a": 1, "b": [0.5, "1e-3", True, None], "c": {"d": "012", "e": "x"}}
    assert read(text, texts=True)["b"] == ["0.5", "1e-3", "yes", "null"]
    for number in ("1:30", "010", "1_000", "0x10_0", "1:30.5"):
        with pytest.raises(ValueError, match="is no plain number"):
            read(f"a: {number}\n")
        assert read(f"a: {number}\n", texts=True) == {"a": number}
    for texts in (False, True):
        with pytest.raises(ValueError, match=r"p\.yaml is not valid YAML: line 2 has the key 'a' twice"):
            read("a: 1\na: 1\n", texts=texts)


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """What a notebook's cells, the YAML of its cohort and papermill's file come to."""
    monkeypatch.setattr(params_module, "schema_of", lambda study: Params)
    monkeypatch.setattr(params_module, "ROOT", tmp_path)
    (tmp_path / "params" / "toy").mkdir(parents=True)

    def begun(*sources: str, yaml: str = "", papermill: str | None = None) -> Params:
        (tmp_path / "params" / "toy" / "demo.yaml").write_text(yaml)
        (tmp_path / "given.yaml").write_text(papermill or "")
        given = tmp_path / "given.yaml" if papermill is not None else None
        monkeypatch.setattr(params_module, "_papermill_file", lambda: given)
        namespace = {"In": [""]}
        for source in sources:
            namespace["In"].append(source)
            exec(source, namespace)
        return of_notebook("toy", namespace, "3-train")

    return begun


def test_a_parameter_is_papermills_then_the_cells_then_the_cohorts_then_the_schemas(notebook, capsys):
    cell = 'cohort = "demo"\nepochs = 3'
    assert notebook(cell) == Params()
    assert notebook(cell, yaml="epochs: 5\nseeds: [7]").epochs == 5, "what stands in the cell is the demo's"
    assert notebook(cell, yaml="epochs: 5\nseeds: [7]").seeds == [7], "of another stage: not in the cell"
    assert notebook(cell.replace("3", "4"), yaml="epochs: 5").epochs == 4, "changed by hand"
    assert "epochs = 4, where " in capsys.readouterr().out
    assert notebook(cell, "# Parameters\nepochs = 3\n", yaml="epochs: 5").epochs == 3, "papermill -p"
    assert notebook(cell, "# Parameters\nepochs = 6\n", "import math", papermill="epochs: 6").epochs == 6


def test_a_parameter_that_a_notebook_does_not_have_is_refused(notebook):
    """papermill itself only warns of it, and runs on with the default."""
    with pytest.raises(ValueError, match=r"3-train: unknown parameter 'epohcs': did you mean 'epochs'\?"):
        notebook("epochs = 3", "# Parameters\nepohcs = 5\n")
    with pytest.raises(FileNotFoundError, match=r"dmeo\.yaml: no such .* did you mean 'demo'"):
        notebook('cohort = "demo"', "# Parameters\ncohort = 'dmeo'\n")


@pytest.mark.parametrize("text", ["epochs: 5\nepochs: 6\n", "epochs: 010\n", "epochs: 4:16\n"])
def test_papermills_own_reading_of_a_yaml_is_not_believed(notebook, text):
    """Of two equal keys it lets the second win, and it reads 010 as eight."""
    read = yaml.safe_load(text)["epochs"]
    with pytest.raises(ValueError, match=r"given\.yaml is not valid YAML"):
        notebook("epochs = 3", f"# Parameters\nepochs = {read}\n", papermill=text)


@pytest.mark.slow
def test_papermill_f_is_read_strictly_for_real(tmp_path):
    (tmp_path / "demo.yaml").write_text("cohort: demo\nseeds: [1]\nseeds: [2]\n")
    command = [sys.executable, "-m", "papermill", "notebooks/spacrd/2-embed.ipynb", tmp_path / "out.ipynb"]
    command += ["-f", tmp_path / "demo.yaml", "--no-progress-bar"]
    environment = {**os.environ, "CROSSBOOK_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "has the key 'seeds' twice" in done.stderr


def test_command_line_is_silent_or_says_one_sentence_and_loads_no_torch(tmp_path):
    (tmp_path / "spacrd").mkdir()
    (tmp_path / "spacrd" / "mine.yaml").write_text("cohort: mine\nlearning_rte: 0.1\n")
    for path, expected in (
        ("params/spacrd/demo.yaml", (0, "")),
        (tmp_path / "spacrd" / "mine.yaml", (2, "mine.yaml: unknown parameter 'learning_rte': did you mean")),
    ):
        command = [sys.executable, "-m", "lib.params", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stderr.strip()[: len(expected[1])]) == expected
    code = "import sys; from lib.params import load; [load(path) for path in sys.argv[1:]];"
    code += "print(sorted({'torch', 'scanpy', 'lightning'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, FILES)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


LATE = {"admission": ["late-fusion", "ctp", "clinical-branch"]}


@pytest.mark.parametrize(
    ("study", "values", "said"),
    [
        ("spacrd", {"phantom": None}, "give either `phantom` or `sections`"),
        ("spacrd", {"settings": {"both": {"encoder": "uni"}}}, "setting 'both' uses 'uni'"),
        ("spacrd", {"settings": {"none": {"encoder": "", "genes": False}}}, "it needs an encoder or genes"),
        ("spacrd", {"shard": 2, "shards": 2}, "shard 2 of 2 shards does not exist"),
        ("crossfusion", {"outcomes": "tcga/x.csv"}, "give either `phantom` or `outcomes`"),
        ("crossfusion", {"phantom": None, "outcomes": "x.csv"}, "which comes from `clinical_table`"),
        ("crossfusion", {"horizons": [36.0, 12.0]}, "in ascending order"),
        ("stroke", {"phantom": None}, "give exactly one of `phantom`, `isles`"),
        ("stroke", {"phantom": None, "arrays": "b"}, "`arrays` and `arrays_clinical`"),
        ("stroke", {"shape": [16, 24, 16]}, "'shape.1': Input should be a multiple of 16"),
        ("stroke", {"models": {"admission": ["late-fusion"]}}, "late-fusion is made of ctp and clinical-"),
        ("stroke", {"models": LATE, "seeds": [1, 2], "first_seed_only": ["ctp"]}, "of the same seeds"),
        ("gcmlm", {"phantom": None}, "give exactly one of `phantom`, `matched_cohort`"),
        ("gcmlm", {"modalities": ["clinical", "ct", "ct"]}, "`modalities` names one twice"),
        ("gcmlm", {"factors": ["ct"]}, "have one name in common: rename the factor"),
        ("gcmlm", {"factors": []}, "`modalities` has clinical, but `factors` names no column"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(study, values, said):
    with pytest.raises(ValueError, match=r"^here: ") as refused:
        check(values, schema_of(study), "here")
    assert said in str(refused.value)
