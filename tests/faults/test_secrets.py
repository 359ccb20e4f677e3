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

from lib.data import resumed

SECRET = "q7Zx81Tn0BdWm4Jv"
NAMES = ("HF_TOKEN", "GDC_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN")
TOKENS = {name: f"ab_{SECRET}/x" for name in NAMES}
ADDRESSES = [
    f"http://{SECRET}:word@127.0.0.1:9/scan.nii.gz",
    f"http://127.0.0.1:9/scan.nii.gz?X-Amz-Signature={SECRET}&X-Amz-Expires=60",
    f"http://198.51.100.7/scan.nii.gz?token={SECRET}",
]
ROOT = Path(__file__).resolve().parents[2]


def betrayed(folder: Path) -> list[str]:
    """Files below a folder that hold the secret, in its name or its bytes, as it is or in base64."""
    forms = [SECRET.encode(), base64.b64encode(SECRET.encode())]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        path.name for path in files if any(form in path.name.encode() + path.read_bytes() for form in forms)
    ]


@pytest.mark.parametrize("url", ADDRESSES)
def test_failed_download_names_the_file_but_no_token(url, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(requests, "get", partial(requests.get, proxies={"http": "http://127.0.0.1:9"}))
    download = resumed(tmp_path / "scan.nii.gz", {"X-Auth-Token": SECRET}, tries=1, wait=0)
    with pytest.raises(FileNotFoundError) as stopped:
        download(url, str(tmp_path / "a"), None)
    said = "".join(traceback.format_exception(stopped.value)) + "".join(capfd.readouterr())
    assert "cannot get scan.nii.gz: " in said
    assert SECRET not in said
    assert betrayed(tmp_path) == []


@pytest.mark.slow
def test_a_stage_and_a_failed_download_by_papermill_leave_no_token_in_anything(tmp_path):
    """Executed notebook, papermill's metadata, log, manifest, record, figures."""
    (tmp_path / "empty.yaml").write_text("{}\n")
    fails = [
        f"import os\nfrom pathlib import Path\nfrom lib.data import resumed\n"
        f"address = bytes.fromhex('{ADDRESSES[1].encode().hex()}').decode()",
        "resumed(Path('scan'), {'X-Auth-Token': os.environ['GDC_TOKEN']}, 1, 0)(address, 'out', None)",
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in fails]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "1-fetch.ipynb")
    demo = ROOT / "notebooks" / "spacrd" / "1-preprocess.ipynb"
    for notebook, given, code in (
        (demo, ROOT / "params" / "spacrd" / "demo.yaml", 0),
        (tmp_path / "1-fetch.ipynb", tmp_path / "empty.yaml", 1),
    ):
        place = tmp_path / "results" / notebook.stem
        place.mkdir(parents=True)
        environment = {**os.environ, **TOKENS, "CROSSBOOK_RESULTS": str(place), "PYTHONPATH": str(ROOT)}
        command = [
            sys.executable,
            "-m",
            "papermill",
            notebook,
            place / "out.ipynb",
            "-f",
            given,
            "--log-output",
        ]
        with open(place / "log", "wb") as out:
            done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, stdout=out, stderr=out)
        assert done.returncode == code, (place / "log").read_text()[-3000:]
    assert "cannot get scan: 127.0.0.1 failed" in (place / "out.ipynb").read_text()
    assert betrayed(tmp_path / "results") == []
    (tmp_path / "results" / "planted").write_text(SECRET)
    assert betrayed(tmp_path / "results") == ["planted"]
