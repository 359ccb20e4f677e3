"""The set-up script and the Makefile, with an interpreter that only writes down what it is asked to do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Stands for python3.11. `-m venv` copies it into the new environment; programs it is given are run by the real one.
PYTHON = """#!/bin/sh
tree="{tree}"
say() {{ echo "$*" >> "$tree/asked"; }}
case "$1 $2" in
    "-c import sys;"*) echo "{version}" ;;
    "-c import importlib"*) exit 1 ;;
    "- "*) exec "{real}" "$@" ;;
    "-m venv")
        for folder in "$@"; do :; done
        [ "$3" = --without-pip ] || say venv
        mkdir -p "$folder/bin" && cp "$tree/python" "$folder/bin/python" ;;
    "-m pip")
        shift 2
        say "pip $*"
        case "$*" in
            *"-r "*) for lock in "$@"; do :; done; cp "$lock" "$tree/given-lock"; [ ! -e "$tree/no-index" ] ;;
            *quarto-cli*) [ -e "$tree/quarto-can-be-had" ] && printf '#!/bin/sh\\necho 1.10.0\\n' > "$tree/.venv/quarto/bin/quarto" \\
                && chmod +x "$tree/.venv/quarto/bin/quarto" ;;
            check) [ ! -e "$tree/broken" ] || {{ echo "a 1.0 requires b"; exit 1; }} ;;
        esac ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""

NEEDED = "bash sh cat chmod cp dirname env find grep ln mkdir mktemp printf rm timeout touch"


class Tree:
    """A copy of what the script reads, and a PATH with nothing on it that it does not need."""

    def __init__(self, folder: Path, root: Path):
        self.folder, self.path = folder, folder / "path"
        (folder / "scripts").mkdir(parents=True)
        self.path.mkdir()
        for name in ("requirements.lock", "pyproject.toml", "scripts/setup.sh"):
            shutil.copy(root / name, folder / name)
        for name in NEEDED.split():
            if found := shutil.which(name):
                (self.path / name).symlink_to(found)
        self.put("path/cc", "#!/bin/sh\n")
        self.interpreter("3.11")

    def put(self, name: str, content: str) -> None:
        (self.folder / name).write_text(content)
        (self.folder / name).chmod(0o755)

    def interpreter(self, version: str) -> None:
        self.put("python", PYTHON.format(tree=self.folder, version=version, real=sys.executable))

    def setup(self, *options: str, **environment: str) -> subprocess.CompletedProcess:
        command = ["bash", str(self.folder / "scripts" / "setup.sh"), *options]
        paths = {"PATH": self.path, "HOME": self.folder, "PYTHON": self.folder / "python"}
        environment = {name: str(path) for name, path in paths.items()} | environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def asked(self) -> list[str]:
        """What pip and venv were asked for since the last call."""
        log = self.folder / "asked"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.replace("--disable-pip-version-check -qq ", "") for line in lines]


@pytest.fixture
def tree(tmp_path, root) -> Tree:
    return Tree(tmp_path / "tree", root)


def test_steps_and_their_order(tree):
    done = tree.setup()
    assert (done.returncode, done.stderr) == (0, "")
    venv, lock, pyradiomics, crossbook, check = tree.asked()
    assert venv == "venv"
    assert lock.startswith("pip install -r ")
    assert pyradiomics == "pip install --no-build-isolation --no-deps pyradiomics==3.0.1"
    assert crossbook == "pip install --no-build-isolation --no-deps -e ."
    assert check == "pip check"
    given = (tree.folder / "given-lock").read_text(encoding="utf-8")
    whole = (tree.folder / "requirements.lock").read_text(encoding="utf-8")
    assert given == whole.replace("pyradiomics==3.0.1\n", "") != whole
    assert all(line.startswith("setup: ") for line in done.stdout.splitlines())


def test_second_call_does_nothing_a_change_is_followed_and_a_failure_is_no_installation(tree):
    tree.setup()
    tree.asked()
    done = tree.setup()
    assert (done.returncode, done.stdout, tree.asked()) == (0, "setup: .venv is up to date\n", [])
    for name in ("requirements.lock", "pyproject.toml", "scripts/setup.sh"):
        with open(tree.folder / name, "a") as file:
            file.write("# changed\n")
        assert tree.setup().returncode == 0
        assert tree.asked()[0].startswith("pip install -r ")
    (tree.folder / "no-index").touch()
    (tree.folder / "pyproject.toml").write_text("# changed again")
    done = tree.setup()
    assert (done.returncode, "could not install requirements.lock" in done.stderr) == (1, True)
    (tree.folder / "no-index").unlink()
    tree.asked()
    assert tree.setup().returncode == 0
    assert tree.asked()[0].startswith("pip install -r ")


def test_packages_that_do_not_fit_together_are_refused(tree):
    (tree.folder / "broken").touch()
    done = tree.setup()
    assert done.returncode == 1
    assert "a 1.0 requires b" in done.stdout
    assert "do not fit together" in done.stderr
    assert not (tree.folder / ".venv" / ".crossbook-setup").exists()


def test_other_pythons_and_what_is_missing_are_one_sentence_each(tree):
    def fails(*options, **environment) -> str:
        done = tree.setup(*options, **environment)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        return done.stderr

    tree.interpreter("3.12")
    assert f"needs Python 3.11 and '{tree.folder}/python' is 3.12" in fails()
    assert tree.asked() == []
    tree.interpreter("3.11")
    assert "no Python found as 'python-of-nowhere'" in fails(PYTHON="python-of-nowhere")
    (tree.path / "cc").unlink()
    assert "there is no C compiler; install gcc" in fails()
    assert "unknown option --quatro" in fails("--quatro")


def test_quarto_on_the_path_is_used(tree):
    tree.put("path/quarto", "#!/bin/sh\necho 9.9.9\n")
    done = tree.setup("--quarto")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "setup: Quarto 9.9.9 found")
    assert not any("quarto-cli" in line for line in tree.asked())


def test_quarto_that_cannot_be_had_stops_nobody_but_the_publisher(tree):
    tree.setup()
    done = tree.setup("--quarto")
    assert (done.returncode, done.stderr) == (0, "")
    assert "preview made by nbconvert" in done.stdout
    assert "https://quarto.org" in done.stdout
    assert not (tree.folder / ".venv" / "quarto").exists()
    assert any("quarto-cli" in line for line in tree.asked())

    assert "tried within the last day" in tree.setup("--quarto").stdout
    assert not any("quarto-cli" in line for line in tree.asked())

    done = tree.setup("--require-quarto")
    assert (done.returncode, "https://quarto.org" in done.stderr) == (1, True)
    assert any("quarto-cli" in line for line in tree.asked())


def test_quarto_from_the_registry_stays_out_of_the_packages(tree):
    (tree.folder / "quarto-can-be-had").touch()
    done = tree.setup("--require-quarto")
    assert done.stdout.splitlines()[-1] == "setup: Quarto 1.10.0 installed in .venv/quarto"
    asked = [line for line in tree.asked() if "quarto-cli" in line]
    assert len(asked) == 1
    assert "--python .venv/quarto/bin/python" in asked[0]
    assert "--no-deps" in asked[0]
    assert tree.setup("--quarto").stdout.splitlines()[-1] == "setup: Quarto 1.10.0 found"


def test_environment_made_otherwise_gets_only_what_its_file_cannot_say(tree):
    other = tree.folder / "conda"
    (other / "bin").mkdir(parents=True)
    shutil.copy(tree.folder / "python", other / "bin" / "python")
    assert tree.setup("--into", str(other)).returncode == 0
    assert tree.asked() == [
        "pip install --no-build-isolation --no-deps pyradiomics==3.0.1",
        "pip install --no-build-isolation --no-deps -e .",
        "pip check",
    ]
    assert not (tree.folder / ".venv").exists()


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    """make, as from a shell: the suite itself is often run by make, which leaves its traces in the environment."""
    ours = ("STUDY", "COHORT", "ENV", "MAKE", "MFLAGS")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_help_is_the_default_and_has_a_line_for_every_command(root):
    phony = (root / "Makefile").read_text(encoding="utf-8").partition(".PHONY: ")[2].partition("\n")[0]
    done = make(root)
    assert done.stdout == make(root, "help").stdout
    assert {line.split()[1] for line in done.stdout.splitlines()} == set(phony.split())
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "make run needs a study and a cohort"),
        (["run", "STUDY=spacrd", "COHORT=nix"], "there is no params/spacrd/nix.yaml; there are: "),
        (["data"], "make data needs a cohort or a source"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(root, arguments, sentence):
    done = make(root, *arguments)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1
    assert lines[0].startswith(sentence)
    assert done.stdout == ""


def test_book_and_run_do_their_own_setup_in_the_environment_that_is_named(root):
    steps = make(root, "-n", "book").stdout
    assert steps.index("setup.sh --quarto") < steps.index("-m lib.params") < steps.index("snakemake")
    steps = make(root, "-n", "run", "STUDY=spacrd", "COHORT=demo").stdout
    assert re.search(r"setup\.sh.*-m lib\.params params/spacrd/demo\.yaml.*-- spacrd_demo", steps, re.DOTALL)
    assert ("--allow-root" in make(root, "-n", "lab").stdout) == (os.getuid() == 0), "as in a container"
    steps = make(root, "-n", "test", "ENV=/opt/conda").stdout
    assert steps.index("setup.sh --into /opt/conda") < steps.index("/opt/conda/bin/python -m pytest")
