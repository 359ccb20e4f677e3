import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lib.spacrd.features import SpotBatches, Spots, nearest, patches


def tissue(sides, undetermined=0.1, seed=0):
    """Sections of side x side spots, stacked; image holds each spot's own row number."""
    random, parts, start = np.random.default_rng(seed), [], 0
    for number, side in enumerate(sides):
        xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(float)
        labels = random.integers(0, 2, len(xy)).astype(np.float32)
        labels[random.random(len(xy)) < undetermined] = np.nan
        rows = torch.arange(start, start + len(xy), dtype=torch.float32)[:, None]
        genes = torch.as_tensor(random.normal(size=(len(xy), 3)), dtype=torch.float32)
        name = np.full(len(xy), f"S{number}")
        parts.append(Spots(rows, genes, torch.as_tensor(labels), torch.as_tensor(nearest(xy, 7)), xy, name))
        start += len(xy)
    return Spots.stack(parts)


def test_stacking_keeps_every_spots_own_neighbours(toy):
    parts = [toy("A1", 0), toy("B1", 1), toy("C1", 2)]
    stacked = Spots.stack(parts)
    assert len(stacked) == 180
    assert stacked.section.tolist() == ["A1"] * 60 + ["B1"] * 60 + ["C1"] * 60
    for number, part in enumerate(parts):
        own = slice(60 * number, 60 * (number + 1))
        torch.testing.assert_close(stacked.genes[stacked.neighbours[own]], part.genes[part.neighbours])
        torch.testing.assert_close(stacked.image[own], part.image)
        torch.testing.assert_close(stacked.labels[own], part.labels, equal_nan=True)
        np.testing.assert_array_equal(stacked.xy[own], part.xy)


def test_stacking_keeps_a_modality_left_out(toy):
    assert Spots.stack([toy(image=0), toy("B1", image=0)]).image is None
    assert Spots.stack([toy(genes=0), toy("B1", genes=0)]).genes is None


@pytest.mark.parametrize("size", [1, 5, 32, 10_000])
def test_patches_partition_every_section(size):
    spots = tissue([9, 14, 6])
    pieces = patches(spots, size)
    np.testing.assert_array_equal(np.sort(np.concatenate(pieces)), np.arange(len(spots)))
    assert max(map(len, pieces)) <= size
    assert min(map(len, pieces)) >= min(size, 36) // 2
    assert all(len(set(spots.section[piece])) == 1 for piece in pieces)


def test_patches_are_compact():
    """Eight by eight spots have a rim; as many spots taken anywhere drag six strangers each along."""
    spots = tissue([32])
    pieces = patches(spots, 64)
    random = np.random.default_rng(0).permutation(len(spots)).reshape(-1, 64)
    assert {len(piece) for piece in pieces} == {64}
    extra, strangers = (
        np.mean([len(spots.neighbours[piece].unique()) - 64 for piece in cut]) for cut in (pieces, random)
    )
    assert extra <= 32  # the rim of a square: stripes would have 64
    assert strangers > 4 * extra


def test_a_batch_is_what_naive_indexing_gives():
    spots = tissue([9, 7])
    centres = np.random.default_rng(1).permutation(len(spots))[:23]
    batch = spots.batch(centres)
    naive = spots.neighbours[centres]
    assert batch["neighbours"].shape == (23, 7)
    torch.testing.assert_close(batch["genes"][batch["neighbours"]], spots.genes[naive])
    torch.testing.assert_close(batch["image"][batch["neighbours"]], spots.image[naive])
    torch.testing.assert_close(batch["labels"], spots.labels[centres], equal_nan=True)
    # each spot once, and none that nobody asked for
    assert sorted(batch["image"][:, 0].int().tolist()) == sorted(set(naive.flatten().tolist()))
    np.testing.assert_array_equal(batch["image"][batch["neighbours"][:, 0], 0], centres)


@pytest.mark.parametrize(("batch_size", "patch_size"), [(16, 1), (40, 16), (64, 64), (10_000, 32)])
def test_an_epoch_visits_every_labelled_spot_once(batch_size, patch_size):
    spots = tissue([9, 14])
    labelled = np.flatnonzero(~torch.isnan(spots.labels).numpy())
    batches = SpotBatches(spots, batch_size, patch_size, seed=3)
    for _ in range(3):
        seen = list(batches)
        centres = torch.cat([b["image"][b["neighbours"][:, 0], 0] for b in seen]).int().numpy()
        np.testing.assert_array_equal(np.sort(centres), labelled)
        assert not any(torch.isnan(b["labels"]).any() for b in seen)
        sizes = [len(b["labels"]) for b in seen]
        assert max(sizes) < batch_size + patch_size
        assert min(sizes[:-1], default=batch_size) >= batch_size


def test_a_last_batch_of_one_spot_is_not_lost():
    spots = tissue([5], undetermined=0)
    batches = SpotBatches(spots, batch_size=8, patch_size=1, seed=0)
    assert sum(len(batch["labels"]) for batch in batches) == 25


def test_undetermined_spots_are_neighbours_but_no_centres():
    spots = tissue([9, 14], undetermined=0.3)
    unknown = set(torch.isnan(spots.labels).nonzero()[:, 0].tolist())
    encoded, centres = set(), set()
    for batch in SpotBatches(spots, 40, 16, seed=0):
        rows = batch["image"][:, 0].int()
        encoded |= set(rows.tolist())
        centres |= set(rows[batch["neighbours"][:, 0]].tolist())
    assert len(unknown) > 50
    assert not centres & unknown
    assert len(encoded & unknown) > 0.9 * len(unknown)


@pytest.mark.parametrize("patch_size", [1, 16])
def test_the_seed_alone_orders_the_batches(patch_size):
    def order(seed, epochs=2):
        batches = SpotBatches(tissue([9, 14]), 40, patch_size, seed)
        return [[b["image"][b["neighbours"][:, 0], 0].tolist() for b in batches] for _ in range(epochs)]

    first = order(5)
    torch.manual_seed(99)
    assert order(5) == first
    assert order(6) != first
    assert first[0] != first[1], "every epoch has the same order"


def test_a_data_loader_hands_the_batches_through():
    spots = tissue([9, 14])
    direct = list(SpotBatches(spots, 40, 16, seed=2))
    loaded = list(DataLoader(SpotBatches(spots, 40, 16, seed=2), batch_size=None))
    assert len(direct) == len(loaded) > 2
    for a, b in zip(direct, loaded, strict=True):
        torch.testing.assert_close(a, b)
