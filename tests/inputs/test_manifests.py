"""Manifests as the GDC's portal, its API and CrossFusion's repository write them."""

import json

import pandas as pd
import pytest
import requests

from lib.inputs.manifests import ask_gdc, read_manifest, slides_of

DX = "TCGA-AA-3955-01Z-00-DX1.e0eea910-db79-4797-b9db-bb8bfe35306d.svs"
BS = "TCGA-AA-3955-01A-02-BS2.8986a2d6-554e-4820-97f7-8b41cc16a2cb.svs"
ROWS = [
    ("37d511f7-036f-4750-b40e-8ef00a8ecfde", DX, "2e5901dd78073eadc1a4a6fe9b0326d3", 219818402),
    ("b5e35b69-16d3-4c1b-8223-2545b6be6fb7", BS, "df6ebc7555b7d09ee001d08e27137566", 35389837),
    ("dd82f8ca-7e2c-41dd-a7d0-620f07c69b4a", "notes-DX1.txt", "5cc151cb2d61426446e80f8fc253b9fd", 254247),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gdc_manifest.csv"  # tab separated in spite of its name, as CrossFusion's are


def write(path, rows, names="id\tfilename\tmd5\tsize", ending="\n"):
    path.write_text(names + ending + "".join("\t".join(map(str, row)) + ending for row in rows))
    return path


def test_a_manifest(path):
    table = read_manifest(write(path, [(*row, "released") for row in ROWS], "id\tfilename\tmd5\tsize\tstate"))
    assert list(table.columns) == ["id", "filename", "md5", "size"]
    assert list(table.itertuples(index=False, name=None)) == ROWS


def test_commas_windows_line_ends_and_a_mark_of_byte_order(path):
    lines = ["id,filename,md5,size", ",".join(map(str, ROWS[0]))]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert list(read_manifest(path).itertuples(index=False, name=None)) == ROWS[:1]


def test_a_sample_sheet_has_neither_md5_nor_size(path):
    for names in ("id\tfilename\tProject ID", "File ID\tFile Name\tProject ID"):
        table = read_manifest(write(path, [(*ROWS[0][:2], "TCGA-COAD")], names))
        assert table.loc[0, ["id", "filename", "md5"]].tolist() == [*ROWS[0][:2], ""]
        assert table["size"].isna().all()


def test_a_row_that_stands_twice_is_one_file(path):
    # TCGA-AA-3955 in the manifest of COAD, which made CrossFusion count that slide twice
    assert len(read_manifest(write(path, [*ROWS, ROWS[0]]))) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: "37d511f7"}, "id 37d511f7 is no UUID"),
        ({1: "../../.bashrc"}, "file name '../../.bashrc' is none"),
        ({1: ".."}, "file name '..' is none"),
        ({2: "sha"}, "has md5 sha"),
        ({3: "many"}, "has size many"),
        ({3: "-1"}, "has size -1"),
        ({3: "1.5"}, "has size 1.5"),
        ({1: BS}, f"two different files have the filename {BS}"),
        ({0: ROWS[1][0]}, "two different files have the id"),
    ],
)
def test_what_is_no_manifest_is_refused(path, change, message):
    row = [change.get(i, value) for i, value in enumerate(ROWS[0])]
    with pytest.raises(ValueError, match="gdc_manifest.csv: .*" + message.replace("..", r"\.\.")):
        read_manifest(write(path, [row, *ROWS[1:]]))


def test_another_table_and_no_table(path):
    with pytest.raises(ValueError, match="has no column filename and no column id, so it is no GDC manifest"):
        read_manifest(write(path, [(1, 2)], "case_id\tage"))
    with pytest.raises(FileNotFoundError, match=r"no manifest at .*portal.gdc"):
        read_manifest(path.with_name("gone.txt"))


def test_slides_are_chosen_and_what_is_absent_is_named():
    manifest = pd.DataFrame(ROWS, columns=["id", "filename", "md5", "size"])
    assert slides_of(manifest)[0]["filename"].tolist() == [DX]
    assert slides_of(manifest, diagnostic=False)[0]["filename"].tolist() == [DX, BS]
    chosen, absent = slides_of(manifest, [BS.removesuffix(".svs"), DX, "TCGA-00-0000", "notes-DX1.txt"])
    assert chosen["filename"].tolist() == [DX, BS]
    assert absent == ["TCGA-00-0000", "notes-DX1.txt"]


class Answer:
    def __init__(self, content):
        self.content = content

    def raise_for_status(self):
        pass

    def json(self):
        return json.loads(self.content)


def test_the_gdc_is_asked_in_portions_and_only_for_what_a_manifest_needs(monkeypatch):
    known, asked = {row[1]: row for row in ROWS}, []

    def post(url, json, timeout):
        asked.append((url, json))
        hits = [known[name] for name in json["filters"]["content"]["value"] if name in known]
        names = ("file_id", "file_name", "md5sum", "file_size")
        return Answer(
            pd.Series({"data": {"hits": [dict(zip(names, hit, strict=True)) for hit in hits]}}).to_json()
        )

    monkeypatch.setattr(requests, "post", post)
    names = [f"x{i}.svs" for i in range(500)]
    table = ask_gdc([*names, DX, BS, DX], server="https://gdc.test")
    assert sorted(table.itertuples(index=False, name=None)) == sorted(ROWS[:2])
    assert [url for url, _ in asked] == ["https://gdc.test/files"] * 2
    assert sum(len(question["filters"]["content"]["value"]) for _, question in asked) == 502
    assert ask_gdc(["unknown.svs"]).empty


def test_the_gdc_out_of_reach_is_said(monkeypatch):
    def post(*_, **__):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "post", post)
    with pytest.raises(ConnectionError, match=r"did not give the manifest of 1 files \(ConnectionError\)"):
        ask_gdc([DX])
    monkeypatch.setattr(requests, "post", lambda *_, **__: Answer("{}"))
    with pytest.raises(ConnectionError, match="KeyError"):
        ask_gdc([DX])


@pytest.mark.real
@pytest.mark.parametrize(
    ("cancer", "slides", "diagnostic", "gib"),
    [("BLCA", 926, 457, 664), ("COADREAD", 1972, 625, 338), ("LUAD", 1608, 541, 387)],
)
def test_real_manifests(mirror, cancer, slides, diagnostic, gib):
    found = list(mirror.rglob(f"gdc_manifest_{cancer}.csv"))
    if not found:
        pytest.skip(f"the mirror has no gdc_manifest_{cancer}.csv")
    manifest = read_manifest(found[0])
    assert len(slides_of(manifest, diagnostic=False)[0]) == slides
    chosen, _ = slides_of(manifest)
    assert len(chosen) == diagnostic
    assert chosen["size"].sum() / 2**30 == pytest.approx(gib, abs=0.5)
