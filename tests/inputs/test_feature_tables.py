"""Features made elsewhere: read as numbers by patient, or refused in one sentence."""

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.cohort import read_feature_table


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_by_patient(tmp_path):
    text = "\ufeffPatient;diagnostics_Versions;original_shape_Volume;size\n7;3.0;1.5;\n10;3.0;-2e3;NA\n"
    table = read_feature_table(written(tmp_path / "ct.csv", text))
    assert list(table.index) == ["7", "10"]
    assert list(table) == ["original_shape_Volume", "size"]
    assert table["original_shape_Volume"].tolist() == [1.5, -2000.0]
    assert table["size"].isna().all()


def test_xlsx_says_the_same(tmp_path):
    table = pd.DataFrame({"patient": ["a", "b"], "f": [1.25, np.nan]})
    table.to_excel(tmp_path / "ct.xlsx", index=False)
    table.to_csv(tmp_path / "ct.csv", index=False)
    pd.testing.assert_frame_equal(
        read_feature_table(tmp_path / "ct.xlsx"), read_feature_table(tmp_path / "ct.csv")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pat,f\na,1\n", "has no column patient; "),
        ("patient,f\na,1\na,2\n", "patient a stands twice"),
        ("patient,f\n,1\n", "row 1 names no patient"),
        ("patient\na\n", "has no feature"),
        (
            "patient,f,g\na,1,2\nb,x1,inf\n",
            r"f of patient b is 'x1', a finite number is needed \(2 such cells",
        ),
    ],
)
def test_refused(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read_feature_table(written(tmp_path / "ct.csv", text))
