"""Hostile sections: HER2ST, Visium, Xenium, their pictures and labels, and the h5ad files made of them."""

import gzip
import json
import shutil
import struct
import sys
import tempfile
import zlib
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from scipy import sparse

from lib.spacrd import cohort as sections
from lib.spacrd import her2st, visium, xenium
from lib.spacrd.phantom import write_cohort
from lib.spacrd.pictures import open_picture, picture_size
from lib.spacrd.section_files import read_section, write_section

sys.path.insert(0, str(Path(__file__).parent))
from judge import SLOW, Case, judge, shown

SLOW.update({"xenium: parquet of 6 * 10^7 cells", "st: counts that unpack to 300 MB"})
KEPT = tempfile.TemporaryDirectory()
MATRIX, POSITIONS = "filtered_feature_bc_matrix.h5", "spatial/tissue_positions.csv"
FACTORS, HIRES = "spatial/scalefactors_json.json", "spatial/tissue_hires_image.png"
COUNTS, PLACES = "data/ST-cnts/A1.tsv.gz", "data/ST-spotfiles/A1_selection.tsv"
LABELS = "data/ST-pat/lbl/A1_labeled_coordinates.tsv"
CELLS = 120


@cache
def phantom(platform: str) -> Path:
    folder = Path(KEPT.name) / platform
    write_cohort(folder, seed=5, patients=1, spots_side=8, genes=60, platform=platform)
    return folder


@cache
def cells() -> Path:
    """A Xenium output of 120 cells."""
    folder, rng = Path(KEPT.name) / "xenium", np.random.default_rng(3)
    folder.mkdir()
    names = [f"cell{i:04d}-1" for i in range(CELLS)]
    counts = sparse.csr_matrix(rng.poisson(0.7, (CELLS, 5)))
    with h5py.File(folder / "cell_feature_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(names, dtype="S")
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = np.array([5, CELLS])
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(["ERBB2", "KRT8", "CD3E", "PTPRC", "NegControl"], "S")
        features["feature_type"] = np.array(["Gene Expression"] * 4 + ["Negative Control Probe"], "S")
        features["genome"] = np.array(["Unknown"] * 5, dtype="S")
    about = {"cell_id": names, "x_centroid": rng.uniform(0, 600, CELLS)}
    table = pd.DataFrame({**about, "y_centroid": rng.uniform(0, 500, CELLS)})
    table.to_parquet(folder / "cells.parquet", index=False)
    table.to_csv(folder / "cells.csv.gz", index=False)
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.25}))
    return folder


def read_st(room, **settings):
    return her2st.read_section(room / "raw", "A1", **settings)


def read_visium(room, labels="labels.csv"):
    return visium.read_section(room / "raw", "VA1", "VA", labels=labels and room / "raw" / labels)


def read_xenium(room):
    return xenium.read_section(room / "raw", "X1", "X")


def spoilt(source, change):
    def make(room):
        shutil.copytree(source(), room / "raw")
        change(room / "raw")
        return room

    return make


def st(name, path, change, says="", **settings):
    def make(raw):
        change(raw / path) if path else change(raw)

    says = says or (Path(path).name if path else "A1")
    return Case(f"st: {name}", spoilt(lambda: phantom("st"), make), read_st, says=says, **settings)


def vis(name, path, change, says="", read=read_visium, **settings):
    def make(raw):
        change(raw / path) if path else change(raw)

    says = says or (Path(path).name if path else "VA1")
    return Case(
        f"visium: {name}", spoilt(lambda: phantom("visium") / "VA1", make), read, says=says, **settings
    )


def xen(name, path, change, says="", **settings):
    def make(raw):
        change(raw / path) if path else change(raw)

    says = says or (Path(path).name if path else "X1")
    return Case(f"xenium: {name}", spoilt(cells, make), read_xenium, says=says, **settings)


def told(text):
    """The whole file replaced."""

    def change(path):
        content = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)

    return change


def lines(edit):
    """The lines of a text changed, packed or not."""

    def change(path):
        packed = path.suffix == ".gz"
        text = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        told("".join(f"{line}\n" for line in edit(text.decode().splitlines())))(path)

    return change


def cell(row: int, column: int, value: str, sep: str = "\t"):
    def edit(rows):
        cut = rows[row].split(sep)
        cut[column] = value
        return [*rows[:row], sep.join(cut), *rows[row + 1 :]]

    return lines(edit)


def titled(column: str, value: str, sep: str = ",", row: int = 1):
    """A cell of a named column."""

    def edit(rows):
        cut = rows[row].split(sep)
        cut[rows[0].split(sep).index(column)] = value
        return [*rows[:row], sep.join(cut), *rows[row + 1 :]]

    return lines(edit)


def cut(share: float):
    def change(path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return change


def h5(edit):
    def change(path):
        with h5py.File(path, "r+") as file:
            edit(file)

    return change


def put(key, values, **settings):
    def edit(file):
        before = file[key][()] if key in file else None
        if key in file:
            del file[key]
        file.create_dataset(key, data=values(before) if callable(values) else values, **settings)

    return h5(edit)


def at(place, value):
    """One value of an array replaced."""

    def values(before):
        before = before.copy()
        before[place] = value
        return before

    return values


def linked(key):
    def edit(file):
        with h5py.File(Path(file.filename).with_name("secret.h5"), "w") as secret:
            secret["x"] = file[key][()]
        del file[key]
        file[key] = h5py.ExternalLink("secret.h5", "x")

    return h5(edit)


def claims(key, shape, **settings):
    def edit(file):
        del file[key]
        file.create_dataset(key, shape, "i4", **settings)

    return h5(edit)


def zeros(key, number=3 * 10**7):
    """120 MB of zeros in a tenth of a MB, and in the file in full."""

    def edit(file):
        del file[key]
        file.create_dataset(key, data=np.zeros(number, np.int32), chunks=(10**6,), compression="gzip")

    return h5(edit)


def flipped(seed: int):
    def change(path):
        content, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
        for place in rng.choice(np.flatnonzero(np.frombuffer(bytes(content), np.uint8)), 3, replace=False):
            content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)

    return change


def told_by_sum(found):
    """HDF5 of this age has no checksum: another value of the right kind is told by the manifest's sha256 alone."""
    return "legal: a section, if not this one" if found.n_obs > 1 else ""


def factors(text):
    return vis(f"factors: {text[:24]}", FACTORS, told(text), "scalefactors_json")


def same_as(source, read):
    """Equal counts, places and labels as of the sound files."""

    @cache
    def sound():
        room = Path(KEPT.name) / f"sound-{source.__name__}"
        shutil.copytree(source(), room / "raw")
        return read(room)

    def check(found):
        known = sound()
        equal = (
            found.obs_names.equals(known.obs_names)
            and found.var_names.equals(known.var_names)
            and not (found.X != known.X).nnz
            and np.array_equal(found.obsm["spatial"], known.obsm["spatial"])
            and np.array_equal(found.obs["label"], known.obs["label"], equal_nan=True)
        )
        return "same" if equal else ""

    return check


def st_source():
    return phantom("st")


def visium_source():
    return phantom("visium") / "VA1"


SAME_ST, SAME_VISIUM, SAME_XENIUM = (
    same_as(st_source, read_st),
    same_as(visium_source, read_visium),
    same_as(cells, read_xenium),
)


def doubled(rows):
    return [*rows, rows[1]]


def as_dates(rows):
    first = rows[0].split("\t")
    return ["\t".join([first[0], "1-Mar", "2-Sep", *first[3:]]), *rows[1:]]


def semicolons(rows):
    return [row.replace("\t", ";").replace(",", ";") for row in rows]


ST = [
    st("sound", "", lambda raw: None, check=SAME_ST, must_read=True),
    st("counts with a BOM", COUNTS, lines(lambda rows: ["\ufeff" + rows[0], *rows[1:]]), check=SAME_ST, must_read=True),
    st("counts with Windows' lines", COUNTS, lines(lambda rows: [row + "\r" for row in rows]), check=SAME_ST, must_read=True),
    st("counts with semicolons", COUNTS, lines(semicolons)),
    st("a spot twice", COUNTS, lines(doubled), "A1"),
    st("a gene twice", COUNTS, lines(lambda rows: ["\t".join([*rows[0].split("\t")[:-1], rows[0].split("\t")[1]]), *rows[1:]]), "A1"),
    st("a gene without a name", COUNTS, cell(0, 3, "")),
    st("a count below 0", COUNTS, cell(2, 4, "-1"), "A1"),
    st("a count NaN", COUNTS, cell(2, 4, "NaN"), "A1"),
    st("a count left out", COUNTS, cell(2, 4, ""), "A1"),
    st("a count of a half", COUNTS, cell(2, 4, "0.5"), "A1"),
    st("a count infinite", COUNTS, cell(2, 4, "inf"), "A1"),
    st("a count with a decimal comma", COUNTS, cell(2, 4, "1,5")),
    st("a count as a date", COUNTS, cell(2, 4, "2020-01-02")),
    st("a count of 2^24 + 1", COUNTS, cell(2, 4, "16777217"), "A1"),
    st("a count of 10^30", COUNTS, cell(2, 4, "1" + "0" * 30), "A1"),
    st("genes as dates", COUNTS, lines(as_dates), "1-Mar"),
    st("spots of another grid", COUNTS, cell(1, 0, "99x99"), "A1: 1 of .*99x99"),
    st("spots renamed", COUNTS, lines(lambda rows: [rows[0], *("s" + row for row in rows[1:])]), "A1"),
    st("counts cut short", COUNTS, cut(0.5)),
    st("counts of no gzip", COUNTS, lambda path: path.write_text("a\tb\n")),
    st("counts of zero bytes", COUNTS, lambda path: path.write_bytes(b"")),
    st("counts of nothing", COUNTS, told("")),
    st("counts of a header only", COUNTS, lines(lambda rows: rows[:1])),
    st("counts with a longer row", COUNTS, lines(lambda rows: [*rows[:2], rows[2] + "\t1\t2", *rows[3:]])),
    st("counts of zero bytes within", COUNTS, cell(2, 4, "1\x00"), "A1"),
    st("counts that unpack to 300 MB", COUNTS, lambda path: path.write_bytes(gzip.compress(bytes(300 << 20), 1))),
    st("places: a header only", PLACES, lines(lambda rows: rows[:1]), "A1"),
    st("places: no pixels", PLACES, lines(lambda rows: [rows[0].replace("pixel_x", "px"), *rows[1:]])),
    st("places: pixels in words", PLACES, titled("pixel_x", "left", "\t")),
    st("places: a pixel left out", PLACES, titled("pixel_x", "", "\t")),
    st("places: x infinite", PLACES, titled("x", "inf", "\t")),
    st("places: a spot twice", PLACES, lines(doubled)),
    st("places: outside of the picture", PLACES, lines(lambda rows: [rows[0], *("\t".join([*row.split("\t")[:4], "1e6", "1e6", "1"]) for row in rows[1:])]), "A1"),
    st("places: 10^300", PLACES, titled("pixel_x", "1e300", "\t")),
    st("labels: no column", LABELS, lines(lambda rows: [rows[0].replace("label", "class"), *rows[1:]])),
    st("labels: x in words", LABELS, titled("x", "one", "\t")),
    st("labels: a class that is nearly cancer", LABELS, titled("label", "invasive cancr", "\t")),
    st("labels: other capitals and spaces", LABELS, lines(lambda rows: [rows[0], *(row.replace("invasive cancer", " Invasive  CANCER ") for row in rows[1:])]), check=SAME_ST, must_read=True),
    st("labels: yes and no", LABELS, titled("label", "yes", "\t")),
    st("labels: 1 among names", LABELS, titled("label", "1", "\t")),
    st("labels: a spot twice", LABELS, lines(doubled)),
    st("labels: of another section", LABELS, titled("x", "77.0", "\t"), "A1"),
]  # fmt: skip


def mtx(edit=None):
    """The matrix as a folder of three tables."""

    def change(raw):
        with h5py.File(raw / MATRIX) as file:
            m = file["matrix"]
            values = m["data"][:], m["indices"][:], m["indptr"][:]
            found = sparse.csc_matrix(values, shape=m["shape"][:]).tocoo()
            names, barcodes = ([each.decode() for each in m[key][:]] for key in ("features/name", "barcodes"))
        (raw / MATRIX).unlink()
        folder = raw / "filtered_feature_bc_matrix"
        folder.mkdir()
        size = " ".join(map(str, (*found.shape, found.nnz)))
        head = ["%%MatrixMarket matrix coordinate integer general", "%", size]
        body = [f"{i + 1} {j + 1} {v}" for i, j, v in zip(found.row, found.col, found.data, strict=True)]
        parts = {
            "matrix.mtx.gz": head + body,
            "barcodes.tsv.gz": barcodes,
            "features.tsv.gz": [f"{name}\t{name}\tGene Expression" for name in names],
        }
        if edit:
            edit(parts)
        for name, rows in parts.items():
            (folder / name).write_bytes(gzip.compress("".join(f"{row}\n" for row in rows).encode(), mtime=0))

    return change


def market(place, line):
    return mtx(lambda parts: parts["matrix.mtx.gz"].__setitem__(place, line))


def twice(parts):
    rows = parts["matrix.mtx.gz"]
    rows[4] = rows[3]


VISIUM = [
    vis("sound", "", lambda raw: None, check=SAME_VISIUM, must_read=True),
    *(vis(f"matrix cut at {share:.0%}", MATRIX, cut(share)) for share in (0, 0.01, 0.3, 0.6, 0.99)),
    vis("matrix of text", MATRIX, told("gene,spot\n")),
    vis("matrix a folder", MATRIX, lambda path: path.unlink() or path.mkdir()),
    *(
        vis(f"no {key}", MATRIX, h5(lambda file, key=key: file.__delitem__(f"matrix/{key}")))
        for key in ("data", "indices", "indptr", "shape", "barcodes", "features", "features/name", "features/id")
    ),
    vis("an index beyond the genes", MATRIX, put("matrix/indices", at(3, 10**6))),
    vis("an index below 0", MATRIX, put("matrix/indices", at(3, -5))),
    vis("indptr beyond the counts", MATRIX, put("matrix/indptr", at(-1, 10**9))),
    vis("indptr that goes back", MATRIX, put("matrix/indptr", at(2, 10**6))),
    vis("indptr of fractions", MATRIX, put("matrix/indptr", lambda before: before + 0.5)),
    vis("fewer barcodes", MATRIX, put("matrix/barcodes", lambda before: before[:-1])),
    vis("a barcode twice", MATRIX, put("matrix/barcodes", lambda before: at(1, before[0])(before))),
    vis("barcodes of no UTF-8", MATRIX, put("matrix/barcodes", at(1, b"\xff\xfe"))),
    vis("barcodes of numbers", MATRIX, put("matrix/barcodes", lambda before: np.arange(len(before))), "VA1"),
    vis("a count twice", MATRIX, put("matrix/indices", lambda before: at(1, before[0])(before))),
    vis("counts of objects", MATRIX, put("matrix/data", lambda before: [str(each) for each in before], dtype=h5py.string_dtype())),
    vis("counts below 0", MATRIX, put("matrix/data", at(0, -1)), "VA1"),
    vis("counts NaN", MATRIX, put("matrix/data", lambda before: before * np.nan), "VA1"),
    vis("counts logged", MATRIX, put("matrix/data", lambda before: np.log1p(before)), "VA1"),
    vis("a count of 2^24 + 1", MATRIX, put("matrix/data", lambda before: at(0, 2**24 + 1)(before.astype(np.int64))), "VA1"),
    vis("shape of three", MATRIX, put("matrix/shape", [60, 5, 5])),
    vis("no genes but antibodies", MATRIX, put("matrix/features/feature_type", lambda before: np.full(len(before), b"Antibody Capture"))),
    vis("two genomes, old layout", MATRIX, h5(lambda file: (file.move("matrix", "GRCh38"), file.copy("GRCh38", "mm10")))),
    vis("a link out", MATRIX, linked("matrix/data")),
    vis("a soft link", MATRIX, h5(lambda file: (file.move("matrix/data", "there"), file["matrix"].__setitem__("data", h5py.SoftLink("/there"))))),
    vis("a link to itself", MATRIX, h5(lambda file: (file.__delitem__("matrix/data"), file["matrix"].__setitem__("data", h5py.SoftLink("/matrix/data"))))),
    vis("10^12 counts and no data", MATRIX, claims("matrix/data", (10**12,), chunks=(10**5,))),
    vis("10^9 counts that compress to nothing", MATRIX, claims("matrix/data", (10**9,), chunks=(10**6,), compression="gzip")),
    vis("zeros that compress", MATRIX, zeros("matrix/data")),
    *(vis(f"matrix spoilt {seed}", MATRIX, flipped(seed), "VA1", check=told_by_sum) for seed in range(8)),
    vis("two matrices", "", lambda raw: shutil.copy(raw / MATRIX, raw / f"b_{MATRIX}")),
    vis("mtx: sound", "", mtx(), check=SAME_VISIUM, must_read=True),
    vis("mtx: of 10^12 x 10^12", "", market(2, "1000000000000 1000000000000 1"), "matrix.mtx.gz"),
    vis("mtx: 10^12 counts", "", mtx(lambda parts: parts["matrix.mtx.gz"].__setitem__(2, parts["matrix.mtx.gz"][2].rsplit(" ", 1)[0] + " 1000000000000")), "matrix.mtx.gz"),
    vis("mtx: a gene beyond", "", market(3, "999 1 1"), "matrix.mtx.gz"),
    vis("mtx: a count in words", "", market(3, "1 1 many"), "matrix.mtx.gz"),
    vis("mtx: a count twice", "", mtx(twice), "matrix.mtx.gz"),
    vis("mtx: cut short", "", mtx(lambda parts: parts["matrix.mtx.gz"].pop()), "matrix.mtx.gz"),
    vis("mtx: no header", "", mtx(lambda parts: parts["matrix.mtx.gz"].pop(2)), "filtered_feature_bc_matrix"),
    vis("mtx: a barcode twice", "", mtx(lambda parts: parts["barcodes.tsv.gz"].__setitem__(0, parts["barcodes.tsv.gz"][1])), "barcodes.tsv.gz"),
    vis("mtx: fewer barcodes", "", mtx(lambda parts: parts["barcodes.tsv.gz"].pop()), "barcodes.tsv.gz"),
    vis("mtx: no features", "", mtx(lambda parts: parts.pop("features.tsv.gz")), "features.tsv.gz"),
    vis("positions without header, old name", "", lambda raw: (lines(lambda rows: rows[1:])(raw / POSITIONS), (raw / POSITIONS).rename(raw / "spatial/tissue_positions_list.csv")), check=SAME_VISIUM, must_read=True),
    vis("positions with header, old name", "", lambda raw: (raw / POSITIONS).rename(raw / "spatial/tissue_positions_list.csv"), check=SAME_VISIUM, must_read=True),
    vis("positions without header, new name", POSITIONS, lines(lambda rows: rows[1:]), check=SAME_VISIUM),
    vis("positions with a BOM", POSITIONS, lines(lambda rows: ["\ufeff" + rows[0], *rows[1:]]), check=SAME_VISIUM, must_read=True),
    vis("positions with the header twice", POSITIONS, lines(lambda rows: [rows[0], *rows])),
    vis("positions of five columns", POSITIONS, lines(lambda rows: [row.rsplit(",", 1)[0] for row in rows])),
    vis("positions with a longer row", POSITIONS, lines(lambda rows: [*rows, rows[1] + ",9,9"])),
    vis("positions with a shorter row", POSITIONS, lines(lambda rows: [*rows[:-1], rows[-1].rsplit(",", 2)[0]])),
    vis("positions with semicolons", POSITIONS, lines(semicolons)),
    vis("positions: a column twice", POSITIONS, lines(lambda rows: [rows[0] + ",barcode", *(row + ",x" for row in rows[1:])])),
    vis("positions: empty", POSITIONS, told("")),
    vis("positions: a header only", POSITIONS, lines(lambda rows: rows[:1]), "VA1"),
    vis("positions: in_tissue yes", POSITIONS, titled("in_tissue", "yes")),
    vis("positions: in_tissue 2", POSITIONS, titled("in_tissue", "2")),
    vis("positions: pixels in words", POSITIONS, titled("pxl_row_in_fullres", "top")),
    vis("positions: pixels infinite", POSITIONS, titled("pxl_row_in_fullres", "inf")),
    vis("positions: one at 10^12", POSITIONS, titled("pxl_row_in_fullres", "1e12")),
    vis("positions: a barcode twice", POSITIONS, lines(doubled)),
    vis("positions: all below 0", POSITIONS, lines(lambda rows: [rows[0], *(",".join([*row.split(",")[:4], "-50", row.split(",")[5]]) for row in rows[1:])]), "VA1"),
    vis("positions: all on one point", POSITIONS, lines(lambda rows: [rows[0], *(",".join([*row.split(",")[:4], "50", "50"]) for row in rows[1:])]), "VA1"),
    *(
        factors(text)
        for text in (
            "{}", "", "[]", "3", '{"tissue_hires_scalef": 0}', '{"tissue_hires_scalef": -0.5}', '{"tissue_hires_scalef": NaN}',
            '{"tissue_hires_scalef": "0.5"}', '{"tissue_hires_scalef": null}', '{"tissue_hires_scalef": true}',
            '{"tissue_hires_scalef": [0.5]}', '{"tissue_hires_scalef": 1e400}', '{"tissue_hires_scalef": 0.5, "tissue_hires_scalef": 0.4}',
            "[" * 100_000, '{"a":' * 100_000, '{"tissue_hires_scalef": 0.5', '{"tissue_hires_scalef": 0.001}',
        )
    ),
    vis("factors ten times too large", FACTORS, told('{"tissue_hires_scalef": 5}'), "tissue_hires_image"),
    vis("factors in UTF-16", FACTORS, told('{"tissue_hires_scalef": 0.5}'.encode("utf-16"))),
    vis("no factors", FACTORS, Path.unlink),
    vis("hires picture cut short in its header", HIRES, lambda path: path.write_bytes(path.read_bytes()[:20])),
    vis("hires picture of 1 x 1", HIRES, lambda path: Image.new("RGB", (1, 1)).save(path)),
    vis("labels: semicolons", "labels.csv", lines(semicolons)),
    vis("labels: spaces around barcodes", "labels.csv", lines(lambda rows: [rows[0], *(" " + row.replace(",", " ,") for row in rows[1:])]), check=SAME_VISIUM, must_read=True),
    vis("labels: three of other barcodes", "labels.csv", lines(lambda rows: [*rows[:-3], *("x" + row for row in rows[-3:])])),
    vis("labels: barcodes in other capitals", "labels.csv", lines(lambda rows: [rows[0], *(row.lower() for row in rows[1:])])),
    vis("labels: a barcode twice", "labels.csv", lines(doubled)),
    vis("labels: NA", "labels.csv", titled("label", "NA")),
    vis("labels: true", "labels.csv", titled("label", "TRUE")),
    vis("labels: IDC", "labels.csv", titled("label", "IDC")),
    vis("labels: numbers among names", "labels.csv", titled("label", "0")),
    vis("labels: empty", "labels.csv", told("")),
    vis("labels: UTF-16", "labels.csv", told("barcode,label\na,1\n".encode("utf-16"))),
    vis("labels: a quote never closed", "labels.csv", titled("label", '"stroma')),
    vis("labels: not there", "", lambda raw: (raw / "labels.csv").unlink(), "labels.csv"),
]  # fmt: skip


def frame(change, **settings):
    def edit(path):
        change(pd.read_parquet(path)).to_parquet(path, index=False, **settings)

    return edit


def long_parquet(path):
    """10^8 cells in a few bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table(
        {"cell_id": np.zeros(10**6, np.int32), "x_centroid": np.zeros(10**6), "y_centroid": np.zeros(10**6)}
    )
    with pq.ParquetWriter(path, rows.schema) as file:
        for _ in range(60):
            file.write_table(rows)  # fmt: skip


def he(matrix: str):
    def change(raw):
        Image.new("RGB", (3000, 3000), "white").save(raw / "X_he_image.tif")
        (raw / "X_he_imagealignment.csv").write_text(matrix)

    return change


XENIUM = [
    xen("sound", "", lambda raw: None, check=SAME_XENIUM, must_read=True),
    xen("cells as csv", "", lambda raw: (raw / "cells.parquet").unlink(), check=SAME_XENIUM, must_read=True),
    *(xen(f"parquet cut at {share:.0%}", "cells.parquet", cut(share)) for share in (0, 0.02, 0.5, 0.98)),
    xen("parquet of text", "cells.parquet", told("PAR1")),
    xen("parquet without x", "cells.parquet", frame(lambda table: table.drop(columns="x_centroid"))),
    xen("parquet with x in words", "cells.parquet", frame(lambda table: table.assign(x_centroid="left"))),
    xen("parquet with x as lists", "cells.parquet", frame(lambda table: table.assign(x_centroid=[[1.0]] * len(table)))),
    xen("parquet with a cell twice", "cells.parquet", frame(lambda table: pd.concat([table, table[:1]]))),
    xen("parquet with a centroid NaN", "cells.parquet", frame(lambda table: table.assign(x_centroid=[np.nan, *table["x_centroid"][1:]]))),
    xen("parquet with a centroid at 10^15", "cells.parquet", frame(lambda table: table.assign(x_centroid=[1e15, *table["x_centroid"][1:]]))),
    xen("parquet of 6 * 10^7 cells", "cells.parquet", long_parquet),
    xen("csv cut short", "", lambda raw: ((raw / "cells.parquet").unlink(), cut(0.5)(raw / "cells.csv.gz")), "cells.csv.gz"),
    xen("csv without y", "", lambda raw: ((raw / "cells.parquet").unlink(), lines(lambda rows: [row.rsplit(",", 1)[0] for row in rows])(raw / "cells.csv.gz")), "cells.csv.gz"),
    xen("csv with x in words", "", lambda raw: ((raw / "cells.parquet").unlink(), titled("x_centroid", "far")(raw / "cells.csv.gz")), "cells.csv.gz"),
    xen("cells without transcripts", "cell_feature_matrix.h5", put("matrix/data", lambda before: before * 0), check=lambda found: "legal: as counted" if found.X.sum() == 0 and found.n_obs > 2 else ""),
    xen("fewer positions than cells", "cells.parquet", frame(lambda table: table[5:]), "X1"),
    xen("matrix cut short", "cell_feature_matrix.h5", cut(0.5)),
    xen("matrix with an index beyond", "cell_feature_matrix.h5", put("matrix/indices", at(0, 5))),
    xen("matrix without feature types", "cell_feature_matrix.h5", h5(lambda file: file.__delitem__("matrix/features/feature_type"))),
    *(
        xen(f"experiment: {text[:24]}", "experiment.xenium", told(text))
        for text in ('{"pixel_size": 0}', '{"pixel_size": -1}', '{"pixel_size": "big"}', '{"pixel_size": null}', "{", "[]", '{"pixel_size": NaN}', '{"pixel_size": 1e300}')
    ),
    xen("experiment without a pixel size", "experiment.xenium", told("{}"), check=lambda found: "legal: the platform's" if found.uns["section"]["um_per_px"] == 0.2125 else ""),
    *(
        xen(f"alignment: {matrix[:16]!r}", "", he(matrix), "he_image")
        for matrix in ("", "a,b,c\n", "1,0\n0,1\n", "1,0,0\n0,1,0\n", "nan,0,0\n0,1,0\n0,0,1\n", "0,0,0\n0,0,0\n0,0,1\n", "1,0,1e9\n0,1,0\n0,0,1\n", "1,0,0\n0,1,0\n0,0,5\n")
    ),
]  # fmt: skip


def shot(case, name, save, **settings):
    def make(room):
        save(room / name)
        return room / name

    return Case(f"picture: {case}", make, open_picture, **settings)


RGB = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def png_of(width: int, height: int, packed: bytes = b"") -> bytes:
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def saved(mode: str = "RGB", values=RGB, **settings):
    return lambda path: Image.fromarray(values).convert(mode).save(path, **settings)


def tiff(values=RGB, edit=None, **settings):
    def save(path):
        tifffile.imwrite(path, values, **settings)
        if edit:
            content = bytearray(path.read_bytes())
            path.write_bytes(edit(content))

    return save


def then(save, change):
    return lambda path: (save(path), change(path))


def entry(tag: int, value: int):
    """A tag of the only page of a little-endian TIFF, overwritten."""

    def edit(content):
        (start,) = struct.unpack_from("<I", content, 4)
        (number,) = struct.unpack_from("<H", content, start)
        for place in range(start + 2, start + 2 + 12 * number, 12):
            if struct.unpack_from("<H", content, place)[0] == tag:
                kind = struct.unpack_from("<H", content, place + 2)[0]
                struct.pack_into("<H" if kind == 3 else "<I", content, place + 8, value)
        return bytes(content)

    return edit


def exactly(values):
    return lambda found: "same" if np.array_equal(found, values) else ""


def nearly(values):
    return lambda found: "same" if np.abs(found.astype(int) - values).mean() < 30 else ""


GREY = np.repeat(RGB[..., :1], 3, axis=2)
PICTURES = [
    *(shot(f"png cut at {share:.0%}", "a.png", then(saved(), cut(share))) for share in (0, 0.005, 0.3, 0.95)),
    *(shot(f"jpg cut at {share:.0%}", "a.jpg", then(saved(), cut(share))) for share in (0.01, 0.3, 0.9)),
    *(shot(f"tif cut at {share:.0%}", "a.tif", then(tiff(), cut(share))) for share in (0.001, 0.05, 0.5, 0.95)),
    *(shot(f"packed tif cut at {share:.0%}", "a.tif", then(tiff(compression="zlib", tile=(16, 16)), cut(share))) for share in (0.3, 0.9)),
    shot("text called png", "a.png", told("no picture")),
    shot("text called tif", "a.tif", told("II*\0no picture at all")),
    shot("text called svs", "a.svs", told("no slide")),
    shot("png called jpg", "a.jpg", lambda path: Image.fromarray(RGB).save(path, format="PNG"), check=exactly(RGB), must_read=True),
    shot("png called tif", "a.tif", lambda path: Image.fromarray(RGB).save(path, format="PNG")),
    shot("PostScript called png", "a.png", told("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")),
    shot("a gif that moves", "a.gif", lambda path: Image.fromarray(RGB).save(path, save_all=True, append_images=[Image.new("RGB", (50, 40))])),
    shot("png that claims 60000 x 30000", "a.png", told(png_of(60_000, 30_000, zlib.compress(bytes(1000))))),
    shot("png that claims 2^31 x 2^31", "a.png", told(png_of(2**31 - 1, 2**31 - 1, zlib.compress(bytes(1000))))),
    shot("png that claims 0 x 0", "a.png", told(png_of(0, 0))),
    shot("tif that claims 10^9 rows", "a.tif", tiff(edit=entry(257, 10**9))),
    shot("tif that claims 60000 x 60000", "a.tif", tiff(edit=lambda content: entry(256, 60_000)(bytearray(entry(257, 60_000)(content))))),
    shot("png of 16 bits", "a.png", lambda path: Image.fromarray(RGB[..., 0].astype(np.uint16) * 200).save(path)),
    shot("tif of 16 bits", "a.tif", tiff(RGB.astype(np.uint16))),
    shot("tif of fractions", "a.tif", tiff(RGB.astype(np.float32))),
    shot("tif of six channels", "a.tif", tiff(np.zeros((6, 40, 50), np.uint8), photometric="minisblack")),
    shot("tif of a stack", "a.tif", tiff(np.zeros((5, 40, 50, 3), np.uint8), photometric="rgb")),
    shot("tif of CMYK", "a.tif", tiff(np.zeros((40, 50, 4), np.uint8), photometric="separated")),
    shot("tif of a palette", "a.tif", tiff(RGB[..., 0], photometric="palette", colormap=np.zeros((3, 256), np.uint16))),
    shot("tif with white as 0", "a.tif", tiff(RGB[..., 0], photometric="miniswhite")),
    shot("tif of grey", "a.tif", tiff(RGB[..., 0], photometric="minisblack"), check=exactly(GREY)),
    shot("tif of RGB", "a.tif", tiff(photometric="rgb"), check=exactly(RGB), must_read=True),
    shot("tif with its colours apart", "a.tif", tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"), check=exactly(RGB), must_read=True),
    shot("tif that leads to another file", "a.ome.tif", lambda path: tifffile.imwrite(path, RGB, photometric="rgb", metadata=None, description='<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels DimensionOrder="XYCZT" ID="Pixels:0" SizeC="3" SizeT="1" SizeX="50" SizeY="40" SizeZ="1" Type="uint8"><Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0"><UUID FileName="../secret.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'), check=exactly(RGB)),
    shot("jpg of CMYK", "a.jpg", saved("CMYK")),
    shot("jpg of grey", "a.jpg", saved("L"), check=lambda found: "same" if (np.ptp(found.astype(int), axis=2) == 0).all() else ""),
    shot("png of a palette", "a.png", saved("P"), check=nearly(RGB)),
    shot("png with alpha", "a.png", lambda path: Image.fromarray(np.dstack([RGB, np.zeros((40, 50), np.uint8)])).save(path), check=exactly(np.full_like(RGB, 255)), must_read=True),
    shot("tif with alpha", "a.tif", tiff(np.dstack([RGB, np.zeros((40, 50), np.uint8)]), photometric="rgb", extrasamples=["unassalpha"]), check=exactly(np.full_like(RGB, 255)), must_read=True),
    shot("tif with alpha put in already", "a.tif", tiff(np.dstack([np.full((40, 50, 3), 50, np.uint8), np.full((40, 50), 128, np.uint8)]), photometric="rgb", extrasamples=["assocalpha"]), check=exactly(np.full_like(RGB, 177))),
    shot("1 x 1", "a.png", saved(values=RGB[:1, :1]), check=exactly(RGB[:1, :1]), must_read=True),
    shot("white all over", "a.png", saved(values=np.full((1500, 1500, 3), 255, np.uint8)), check=lambda found: "same" if (found == 255).all() else "", must_read=True),
    Case("size: text called tif", lambda room: told("no")(room / "a.tif") or room / "a.tif", picture_size),
    Case("size: text called svs", lambda room: told("no")(room / "a.svs") or room / "a.svs", picture_size),
    Case("size: png cut in its header", lambda room: told(png_of(5, 5)[:20])(room / "a.png") or room / "a.png", picture_size),
]  # fmt: skip


@cache
def own_bytes() -> bytes:
    path = Path(KEPT.name) / "A1.h5ad"
    write_section(her2st.read_section(phantom("st"), "A1"), path)
    return path.read_bytes()


def own(change=None, name="A1.h5ad"):
    def make(room):
        (room / name).write_bytes(own_bytes())
        if change:
            change(room / name)
        return room / name

    return make


def kept(case, change, **settings):
    return Case(f"h5ad: {case}", own(change), read_section, **settings)


def pickled(file):
    import pickle

    file["uns/thing"] = np.void(pickle.dumps({"a": print}))


OWN = [
    kept("sound", None, check=lambda found: "same" if found.n_vars == 60 else "", must_read=True),
    *(kept(f"cut at {share:.0%}", cut(share)) for share in (0, 0.001, 0.1, 0.5, 0.9, 0.999)),
    *(kept(f"spoilt {seed}", flipped(seed), check=told_by_sum) for seed in range(25)),
    kept("text", told("spot,gene\n")),
    Case("h5ad: not there", lambda room: room / "A1.h5ad", read_section),
    Case("h5ad: a folder", lambda room: (room / "A1.h5ad").mkdir() or room / "A1.h5ad", read_section),
    kept("a pickle in uns", h5(pickled), check=lambda found: "legal: bytes, run by nobody" if isinstance(found.uns["thing"], np.void | bytes) else ""),
    kept("an encoding nobody has", h5(lambda file: file["obs"].attrs.__setitem__("encoding-type", "pickle"))),
    kept("no X", h5(lambda file: file.__delitem__("X"))),
    kept("no obs", h5(lambda file: file.__delitem__("obs"))),
    kept("no places", h5(lambda file: file.__delitem__("obsm/spatial"))),
    kept("no label", h5(lambda file: (file.__delitem__("obs/label"), file["obs"].attrs.__setitem__("column-order", ["array_x", "array_y", "label_source", "tissue"])))),
    kept("no section in uns", h5(lambda file: file.__delitem__("uns/section"))),
    kept("places of three columns", put("obsm/spatial", lambda before: np.zeros((len(before), 3)))),
    kept("fewer places", put("obsm/spatial", lambda before: before[1:])),
    kept("places NaN", put("obsm/spatial", lambda before: before * np.nan)),
    kept("labels of 2", put("obs/label", lambda before: before * 0 + 2)),
    kept("labels too few", put("obs/label", lambda before: before[1:])),
    kept("labels in words", put("obs/label", lambda before: np.full(len(before), b"one"))),
    kept("counts NaN", put("X/data", lambda before: before * np.nan)),
    kept("counts below 0", put("X/data", lambda before: -before)),
    kept("counts in words", put("X/data", lambda before: np.full(len(before), b"one"))),
    kept("an index beyond", put("X/indices", at(0, 60))),
    kept("an index below 0", put("X/indices", at(0, -1))),
    kept("indptr that goes back", put("X/indptr", at(3, 10**6))),
    kept("a matrix of 10^9 rows", h5(lambda file: file["X"].attrs.__setitem__("shape", [10**9, 60]))),
    kept("10^12 counts and no data", claims("X/data", (10**12,), chunks=(10**5,))),
    kept("10^11 places and no data", claims("obsm/spatial", (10**11, 2), chunks=(10**5, 2))),
    kept("zeros that compress", zeros("X/data")),
    kept("200 folders deep", h5(lambda file: file.create_group("uns" + "/a" * 200))),
    kept("a spot twice", put("obs/_index", lambda before: at(1, before[0])(before))),
    kept("a gene twice", put("var/_index", lambda before: at(1, before[0])(before))),
    kept("a pitch of 0", put("uns/section/pitch_px", 0.0)),
    kept("a pitch in words", put("uns/section/pitch_px", "wide")),
    kept("a category beyond", put("obs/tissue/codes", lambda before: at(0, 99)(before))),
    kept("a source nobody knows", put("obs/label_source/categories", lambda before: [b"oracle"] * len(before))),
    kept("a link out", linked("X/data")),
]  # fmt: skip


def section_table(text):
    def make(room):
        (room / "cohort.csv").write_text(text)
        return room / "cohort.csv"

    return make


HEAD = ",".join(sections.COLUMNS)
TABLES = [
    Case(f"table: {name}", section_table(f"{HEAD}\n{rows}"), sections.read_table)
    for name, rows in {
        "no row": "", "a folder that leaves": "A1,A,st,../x,,pathologist,\n", "labels that leave": "A1,A,st,,../../l.csv,pathologist,\n",
        "an absolute folder": "A1,A,st,/etc,,pathologist,\n", "a section that is a path": "../A1,A,st,,,pathologist,\n",
        "a section twice": "A1,A,st,,,pathologist,\nA1,A,st,,,pathologist,\n", "sections in other capitals": "A1,A,st,,,pathologist,\na1,A,st,,,pathologist,\n",
        "a formula": "=1+1,A,st,,,pathologist,\n", "a platform nobody knows": "A1,A,slideseq,,,pathologist,\n", "no patient": "A1,,st,,,pathologist,\n",
        "a longer row": "A1,A,st,,,pathologist,,,,\n",
    }.items()
]  # fmt: skip


@pytest.mark.parametrize(
    "case", shown([*ST, *VISIUM, *XENIUM, *PICTURES, *OWN, *TABLES]), ids=lambda case: case.name
)
def test_sections(case, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    judge(case, room)
