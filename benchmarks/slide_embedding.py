"""What a slide's tiles cost, decoded and encoded at 20x, 10x and 5x in one pass.

    .venv/bin/python benchmarks/slide_embedding.py

The slide of `tile_decoding`: a phantom of 8,192 x 8,192 pixels at 0.25 µm. Encoders with weights drawn at random, since
only their size counts here: ResNet50 as CrossFusion used one (2,048 numbers);
MobileNetV2; and the colour descriptor. One thread, each in a process of its own; the least of the repeats counts.
Processor seconds include decoding; those of a tile are what the cost of a cohort is reckoned with
(`book/costs.ipynb`). No bar.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from lib.files import write_csv
from lib.stage import processor

SIDE, TILE_PX = 8_192, 256
TASKS = {"resnet50": "resnet50.tv2_in1k", "mobilenetv2": "mobilenetv2_100.ra_in1k", "colour": "colour"}


def measured(task: str, folder: Path) -> dict:
    """Run in a process of its own."""
    import cv2
    import timm
    import torch
    from safetensors.torch import save_file

    from lib.features.encoders import load_encoder
    from lib.features.tiles import embed_slide, exact_tiles, write_embedding
    from lib.inputs.slides import open_slide

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    name, weights = TASKS[task], ""
    if name != "colour":
        torch.manual_seed(0)
        weights = folder / f"{name}.safetensors"
        save_file(timm.create_model(name, pretrained=False).state_dict(), weights)
    encoder = load_encoder(name, weights, "cpu")
    with open_slide(folder / "slide.tiff") as slide:
        grid = exact_tiles(slide, tile_px=TILE_PX)
        clock, spent = time.perf_counter(), time.process_time()
        embedded = embed_slide(slide, grid, encoder)
        wall_s, cpu_s = time.perf_counter() - clock, time.process_time() - spent
    tiles = sum(len(each.features) for each in embedded.values())
    paths = write_embedding(folder / "features", grid, encoder, embedded)
    stored = sum(path.stat().st_size for path in paths.values())
    return {
        "encoder": task,
        "numbers": encoder.dim,
        "tiles": tiles,
        "processor_s": round(cpu_s, 2),
        "wall_s": round(wall_s, 2),
        "processor_ms_per_tile": round(1e3 * cpu_s / tiles, 2),
        "bytes_per_tile": round(stored / tiles),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "slide_embedding.csv")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure[0], Path(options.measure[1]))))
        return
    from lib.phantoms.slides import write_slide

    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder:
        write_slide(
            Path(folder, "slide.tiff"), fine=0, coarse=0, cancer=0, seed=0, side_px=SIDE, um_per_px=0.25
        )
        for task in TASKS:
            command = [sys.executable, __file__, "--measure", task, folder]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            runs = [
                json.loads(
                    subprocess.run(
                        command, check=True, capture_output=True, text=True, env=environment
                    ).stdout
                )
                for _ in range(options.repeats)
            ]
            rows.append(min(runs, key=lambda run: run["processor_s"]))
    table = pd.DataFrame(rows).assign(load_before=round(load, 2), cpu=processor())
    write_csv(table, options.out)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
