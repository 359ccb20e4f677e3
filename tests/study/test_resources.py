"""What a stage asks of a machine."""

from pathlib import Path

import pytest

from lib.params import Checked, schema_of
from lib.study.resources import Resources, resources_of

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures")
COHORTS = sorted((path.parent.name, path.stem) for path in (ROOT / "params").glob("*/*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "params" / "spacrd"
    folder.mkdir(parents=True)
    (folder / "demo.yaml").touch()
    (folder / "her2st.yaml").touch()
    (tmp_path / "params" / "resources.yaml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("study", "cohort"), COHORTS)
def test_every_stage_of_every_cohort_asks_for_something(study, cohort):
    for stage in STAGES:
        asked = resources_of(study, cohort, stage, STAGES)
        assert asked.mem_mb >= 1000
        assert asked.minutes >= 30


@pytest.mark.parametrize("study", ["crossfusion", "gcmlm", "spacrd", "stroke"])
def test_a_demo_needs_no_gpu_and_fits_a_laptop(study):
    for stage in STAGES:
        asked = resources_of(study, "demo", stage, STAGES)
        assert (asked.gpus, asked.threads) == (0, 1)
        assert asked.mem_mb <= 4000


def test_no_result_depends_on_it():
    for study in ("crossfusion", "gcmlm", "spacrd", "stroke"):
        assert issubclass(schema_of(study), Checked)
        assert not {"resources", "mem_mb", "minutes", "gpus"} & set(schema_of(study).model_fields)


def test_last_word_counts_key_by_key(tmp_path):
    root = written(
        tmp_path,
        "'*/*':\n  3-train: {mem_mb: 1000, minutes: 10, gpus: 1}\n"
        "'spacrd/*':\n  3-train: {mem_mb: 2000}\n"
        "spacrd/her2st:\n  3-train: {minutes: 30}\n",
    )
    asked = resources_of("spacrd", "her2st", "3-train", STAGES, root)
    assert asked == Resources(mem_mb=2000, minutes=30, gpus=1)
    assert resources_of("spacrd", "demo", "3-train", STAGES, root).minutes == 10


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("'*/*': {3-trian: {mem_mb: 1000, minutes: 1}}", "unknown stage '3-trian': did you mean '3-train'?"),
        ("'*/*': {3-train: {memory: 1000}}", "unknown parameter 'memory': did you mean 'mem_mb'?"),
        (
            "'*/*': {3-train: {mem_mb: much}}",
            "3-train of '*/*': parameter 'mem_mb': Input should be a valid int",
        ),
        ("'*/*': {3-train: {mem_mb: 1000, minutes: 0}}", "parameter 'minutes': Input should be greater than"),
        ("'*/*': {3-train: 1000}", "3-train of '*/*': expected `{mem_mb: ..., minutes: ...}`, found 1000"),
        ("'*/*': 1000", "'*/*': expected `stage: {mem_mb: ...}`, found 1000"),
        ("spacrd/her2ts: {}", "'spacrd/her2ts' fits no cohort: did you mean 'spacrd/her2st'?"),
        ("- 1", "expected `study/cohort:` entries, found a list"),
        ("a: [", "not valid YAML"),
        ("'*/demo': {3-train: {mem_mb: 1000, minutes: 1}}", "nothing is said of 3-train of spacrd/her2st"),
        ("'*/*': {3-train: {mem_mb: 1000}}", "3-train of spacrd/her2st: parameter 'minutes': Field required"),
    ],
)
def test_fault_is_one_sentence(tmp_path, text, sentence):
    root = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"^params/resources\.yaml") as caught:
        resources_of("spacrd", "her2st", "3-train", STAGES, root)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"params/resources\.yaml is missing: it says what each stage asks"
    ):
        resources_of("spacrd", "her2st", "3-train", STAGES, tmp_path)
