"""A token in the environment, or in an address, is in nothing that a run leaves or says."""

import base64
import os
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

import nbformat
import pytest
import requests
import yaml

from lib.data import resumed

SECRET = "q7Zx81Tn0BdWm4Jv"
TOKENS = {
    "HF_TOKEN": f"hf_{SECRET}Rr",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{SECRET}Rs",
    "GDC_TOKEN": f"eyJ{SECRET}.eyK",
    "GDC_TOKEN_FILE": f"{SECRET}/gdc-user-token.txt",
    "AWS_ACCESS_KEY_ID": f"AKIA{SECRET}",
    "AWS_SECRET_ACCESS_KEY": f"{SECRET}/+key",
    "AWS_SESSION_TOKEN": f"session{SECRET}==",
    "GITHUB_TOKEN": f"ghp_{SECRET}",
}
FORMS = [SECRET.encode(), base64.b64encode(SECRET.encode())]
ADDRESSES = [
    f"http://{SECRET}:word@127.0.0.1:9/scan.nii.gz",
    f"http://127.0.0.1:9/scan.nii.gz?X-Amz-Signature={SECRET}&X-Amz-Expires=60",
    f"http://127.0.0.1:9/scan.nii.gz#{SECRET}",
    f"http://198.51.100.7/scan.nii.gz?token={SECRET}",
]
ROOT = Path(__file__).resolve().parents[2]


def betrayed(folder: Path) -> list[str]:
    """Files below a folder that hold the secret, in its name or its bytes, as it is or in base64."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if SECRET in path.name or any(form in content for form in FORMS):
            found.append(path.relative_to(folder).as_posix())
    return found


def test_search_finds_what_is_planted(tmp_path):
    (tmp_path / "log").write_bytes(b"\x00token: " + TOKENS["AWS_SECRET_ACCESS_KEY"].encode())
    (tmp_path / "coded").write_bytes(base64.b64encode(SECRET.encode()))
    (tmp_path / "clean").write_text("nothing")
    assert sorted(betrayed(tmp_path)) == ["coded", "log"]


@pytest.mark.parametrize("url", ADDRESSES)
def test_failed_download_names_the_file_but_no_token(url, tmp_path, monkeypatch, capfd):
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    headers = {"X-Auth-Token": TOKENS["GDC_TOKEN"]}
    monkeypatch.setattr(requests, "get", partial(requests.get, proxies={"http": "http://127.0.0.1:9"}))
    with pytest.raises(FileNotFoundError) as stopped:
        resumed(tmp_path / "scan.nii.gz", headers, tries=1, wait=0)(url, str(tmp_path / "out"), None)
    said = "".join(traceback.format_exception(stopped.value)) + "".join(capfd.readouterr())
    assert "cannot get scan.nii.gz: " in said
    assert SECRET not in said
    assert betrayed(tmp_path) == []


@pytest.mark.slow
def test_stage_by_papermill_leaves_no_token_in_anything(tmp_path):
    """Executed notebook, papermill's metadata, log, manifest, record, figures."""
    values = yaml.safe_load((ROOT / "params" / "stroke" / "demo.yaml").read_text(encoding="utf-8"))
    values |= {"cohort": "tiny", "phantom": {"seed": 3, "patients": 12, "effect": 1.5}, "folds": 2}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    folder = tmp_path / "results" / "stroke" / "tiny"
    for stage in ("1-preprocess", "2-embed"):
        done, _ = by_papermill(ROOT / "notebooks" / "stroke" / f"{stage}.ipynb", folder, tmp_path)
        assert done == 0, (folder / "logs" / f"{stage}.log").read_text()[-3000:]
    names = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}
    assert {"notebooks", "logs", "manifests", "runs", "units", "features", "figures"} <= names
    assert betrayed(tmp_path / "results") == []


@pytest.mark.slow
def test_stage_that_fails_by_papermill_leaves_no_token_either(tmp_path):
    """A download that fails, with a token in its address and one in its headers."""
    code = [
        f"import os\n"
        f"from pathlib import Path\n"
        f"from lib.data import resumed\n"
        f"address = bytes.fromhex('{ADDRESSES[1].encode().hex()}').decode()\n"
        f"headers = {{'X-Auth-Token': os.environ['GDC_TOKEN']}}",
        "resumed(Path('scan.nii.gz'), headers, tries=1, wait=0)(address, 'out', None)",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in code],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, tmp_path / "1-fetch.ipynb")
    (tmp_path / "tiny.yaml").write_text("{}\n")
    folder = tmp_path / "results"
    done, executed = by_papermill(tmp_path / "1-fetch.ipynb", folder, tmp_path)
    assert done != 0
    assert "cannot get scan.nii.gz: 127.0.0.1 failed" in executed.read_text()
    assert betrayed(folder) == []


def by_papermill(notebook: Path, folder: Path, scratch: Path) -> tuple[int, Path]:
    """As the Snakefile does it, with tokens in the environment; exit code and the executed notebook."""
    executed, log = folder / "notebooks" / notebook.name, folder / "logs" / f"{notebook.stem}.log"
    for path in (executed, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **TOKENS, "CROSSBOOK_RESULTS": str(scratch / "results")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "papermill", notebook, executed, "-f", scratch / "tiny.yaml"]
    command += ["--no-progress-bar", "--log-output", "--log-level", "WARNING"]
    with open(log, "wb") as out:
        done = subprocess.run(
            list(map(str, command)), cwd=scratch, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    return done.returncode, executed
