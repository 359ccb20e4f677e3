"""Runs stages of a cohort in forked processes, for tests that kill them: what the notebooks import is imported once.

A line of JSON in, {"study", "stages", "values", "results", "kill_at", "kill_after"}; a line of JSON out. Instead of stages
an order may bring the `source` of a stage of its own. Figures, most of the time of stages as small as these, are not drawn.
"""

import functools
import importlib
import json
import os
import pathlib
import re
import signal
import sys
import time
import traceback

import matplotlib as mpl
import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
mpl.use("agg")
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.truncate"}


def cells(study: str, stage: str) -> list:
    notebook = nbformat.read(ROOT / "notebooks" / study / f"{stage}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def load(study: str) -> None:
    """Import what the notebooks of a study do."""
    for path in sorted((ROOT / "notebooks" / study).glob("[1-4]-*.ipynb")):
        for cell in cells(study, path.stem):
            for line in re.findall(r"^(?:from|import) ([\w.]+)", cell.source, re.MULTILINE):
                importlib.import_module(line)


def execute(study: str, stage: str, values: dict) -> None:
    namespace = {"__name__": "__main__", "display": lambda *_: None, "In": []}
    for cell in cells(study, stage):
        sources = [cell.source]
        if "parameters" in cell.metadata.get("tags", ()):
            sources.append("\n".join(["# Parameters", *(f"{name} = {it!r}" for name, it in values.items())]))
        for source in sources:
            namespace["In"].append(source)
            exec(compile(source, stage, "exec"), namespace)


def count_writes(folder: str, kill_at: int, told: int) -> None:
    """Count what Python does to files below a folder, and kill -9 this process just before the `kill_at`-th."""
    seen = [0]

    def hook(event: str, arguments: tuple) -> None:
        writes = event in WRITES or (event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        if writes and isinstance(arguments[0], str | os.PathLike) and str(arguments[0]).startswith(folder):
            seen[0] += 1
            os.pwrite(told, str(seen[0]).encode(), 0)
            if seen[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def of_notebooks() -> None:
    """One thread, a checkpoint at every epoch, no figures."""
    import torch

    from lib.figures import style
    from lib.training import runs

    torch.set_num_threads(1)
    runs.Checkpoint = functools.partial(runs.Checkpoint, every_s=0.0)
    style.save = save_nothing


def save_nothing(figure, path) -> list[pathlib.Path]:
    from lib.files import write_json

    write_json("a figure", target := pathlib.Path(path).with_suffix(".svg"))
    return [target]


def child(order: dict, said: str) -> int:
    from lib import stage as stages

    os.environ["CROSSBOOK_RESULTS"] = order["results"]
    sys.stdout = sys.stderr = open(said, "w", buffering=1)  # noqa: SIM115
    # the tree may be worked on while the tests run, and git takes longer than a unit of these
    stages.commit = stages.code_digest = lambda *_: "of the test"
    if order["stages"]:
        of_notebooks()
    told = os.open(f"{said}.events", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    count_writes(order["results"], order.get("kill_at") or 0, told)
    try:
        if order.get("source"):
            exec(compile(order["source"], "source", "exec"), {"values": order["values"]})
        for stage in order["stages"]:
            execute(order["study"], stage, order["values"])
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    scratch = sys.argv[1]
    for number, line in enumerate(sys.stdin):
        order, said = json.loads(line), f"{scratch}/{number}"
        importlib.import_module("lib.stage")
        if order["stages"]:
            load(order["study"])
        begun = time.monotonic()
        process = os.fork()
        if not process:
            code = 1
            try:
                code = child(order, said)
            finally:
                os._exit(code)
        if order.get("kill_after"):
            time.sleep(order["kill_after"])
            os.kill(process, signal.SIGKILL)  # a child that has ended still waits for us, so this is it
        _, status = os.waitpid(process, 0)
        events = pathlib.Path(f"{said}.events")
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - begun,
            "events": int(events.read_text() or 0) if events.exists() else 0,
            "said": pathlib.Path(said).read_text() if os.path.exists(said) else "",
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
