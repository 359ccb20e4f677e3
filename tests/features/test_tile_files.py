"""A grid comes back as it was written."""

import numpy as np
import pytest

from lib.features.tiles import TileGrid, Tiles, read_grid, write_grid


def grid(n: int = 3) -> TileGrid:
    def tiles(k):
        places = np.column_stack([np.arange(k), np.zeros(k, np.int64)])
        return Tiles(places * 256, places, np.zeros(k, np.int64), np.linspace(0, 1, k).astype(np.float32))

    return TileGrid(
        "S-1", "ok", "exact", 256, 1024.5, 0.499, (4000, 3000), {20: tiles(4 * n), 10: tiles(2 * n), 5: tiles(n)},
        note="pen at the border",
    )  # fmt: skip


@pytest.mark.parametrize("n", [3, 0])
def test_there_and_back(tmp_path, n):
    write_grid(tmp_path / "a.h5", grid(n))
    back, there = read_grid(tmp_path / "a.h5"), grid(n)
    for name in ("slide", "status", "mode", "tile_px", "cell_px", "um_per_px", "size", "note", "scales"):
        assert getattr(back, name) == getattr(there, name), name
    for scale in there.scales:
        for name in ("coords", "places", "origins", "tissue"):
            np.testing.assert_array_equal(getattr(back.tiles[scale], name), getattr(there.tiles[scale], name))
    np.testing.assert_array_equal(back.origins, there.origins)
    write_grid(tmp_path / "b.h5", back)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_other_files_are_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"a\.h5 is no grid of tiles"):
        read_grid(tmp_path / "a.h5")
    write_grid(tmp_path / "b.h5", grid())
    (tmp_path / "b.h5").write_bytes((tmp_path / "b.h5").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"b\.h5"):
        read_grid(tmp_path / "b.h5")
    with pytest.raises(FileNotFoundError):
        read_grid(tmp_path / "c.h5")
