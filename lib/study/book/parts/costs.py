"""What computing costs: the committed benchmarks, and how many units of work a cohort was."""

from pathlib import Path

import pandas as pd

from lib.study.book.parts.tables import pipe_table
from lib.study.book.records import Records

# what of a benchmark's columns is printed, and in which words
SHOWN = {
    "crossfusion_step": (
        "One training step of CrossFusion",
        {"size": "bag", "scheme": "scheme", "seconds": "seconds", "peak_mb": "peak MB"},
    ),
    "bag_growth": (
        "One training step of each slide model against the number of 20x tiles",
        {"model": "model", "cap": "most tiles (0: all)", "tiles_20x": "20x tiles", "seconds": "seconds"},
    ),
    "spacrd_epoch": (
        "One stage-II epoch of SpaCRD, 2,868 spots and 3,000 genes",
        {"scheme": "scheme", "seconds": "seconds", "peak_mb": "peak MB"},
    ),
    "stroke_step": (
        "One training step of mRS90's network, 32 frames",
        {"size": "frame", "scheme": "scheme", "seconds": "seconds", "peak_mb": "peak MB"},
    ),
    "tile_decoding": (
        "Decoding a slide's tiles",
        {"tool": "tool", "scales": "scales", "tiles": "tiles", "wall_s": "seconds"},
    ),
    "slide_embedding": (
        "Decoding and encoding a slide's tiles at three scales, one thread",
        {
            "encoder": "encoder",
            "numbers": "numbers a tile",
            "tiles": "tiles",
            "processor_s": "processor, s",
            "processor_ms_per_tile": "ms a tile",
            "bytes_per_tile": "bytes a tile",
        },
    ),
    "planning": (
        "The frame itself: units that do next to nothing, and dry runs",
        {
            "task": "task",
            "units": "units",
            "cohorts": "cohorts",
            "shards": "shards",
            "jobs": "jobs",
            "processor_seconds": "processor, s",
            "peak_mb": "peak MB",
            "files": "files",
            "files_mb": "MB of files",
        },
    ),
    "feature_file": (
        "Features of a slide (15,000 x 1,024), written and read",
        {
            "layout": "layout",
            "dtype": "numbers",
            "megabytes": "MB",
            "write_ms": "write, ms",
            "read_ms": "read, ms",
        },
    ),
    "c_index": (
        "The c-index and its bootstrap",
        {"task": "task", "tool": "tool", "n": "patients", "draws": "draws", "seconds": "seconds"},
    ),
    "radiomics_cases": ("Radiomics of six cases, preset `ct`", {}),
    "stage_memory": (
        "Peak memory of a stage against the number of its units",
        {
            "study": "study",
            "stage": "stage",
            "units_few": "units",
            "mb_few": "peak MB",
            "units_many": "four times the units",
            "mb_many": "peak MB then",
        },
    ),
    "clam_tiling": (
        "Laying tiles as CLAM does",
        {"case": "case", "tool": "tool", "tiles": "tiles", "ms": "ms", "megabytes": "MB"},
    ),
}
WORDS = ("model", "scheme", "size", "tool", "scales", "layout", "dtype", "task", "case", "encoder")
MEASURED = ("seconds", "wall_s", "processor_s", "peak_mb", "megabytes", "ms", "write_ms", "read_ms")


def cost(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """Every committed benchmark as a table; nothing that was not measured."""
    tables = [
        _benchmark(path, pd.read_csv(path))
        for name in SHOWN
        if (path := records.root / "benchmarks" / "results" / f"{name}.csv").is_file()
    ]
    return "\n".join(tables) or "No benchmark was measured in this copy.\n", {}


def _benchmark(path: Path, table: pd.DataFrame) -> str:
    words, columns = SHOWN[path.stem]
    columns = {name: head for name, head in columns.items() if name in table} or {
        name: name.replace("_", " ") for name in table if name not in ("cpu", "load_before")
    }
    machine = ", ".join(sorted(table["cpu"].dropna().unique())) if "cpu" in table else ""
    load = table["load_before"].max() if "load_before" in table else float("nan")
    if pd.notna(load):
        machine += f"; load of the machine before: {load:.1f}"
    heads = {head: "l" if name in WORDS else "r" for name, head in columns.items()}
    measured = [name for name in columns if name in MEASURED]
    shown = table.dropna(subset=measured, how="all") if measured else table
    if path.stem == "bag_growth":  # every size is drawn in CrossFusion's chapters
        shown = shown[shown["tiles_20x"].isin([shown["tiles_20x"].min(), shown["tiles_20x"].max()])]
    rows = [[_cell(row[name]) for name in columns] for _, row in shown.iterrows()]
    caption = f"{words}{f' ({machine})' if machine else ''}. From `benchmarks/results/{path.name}`."
    return pipe_table(heads, rows, caption, f"tbl-cost-{path.stem.replace('_', '-')}")


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
