import time

import numpy as np
import pytest

from lib.statistics import classification
from lib.statistics.classification import NotComputable
from lib.statistics.intervals import ScoredSection, bootstrap, interval


def shuffled(section, seed=0):
    order = np.random.default_rng(seed).permutation(section.labels.size)
    return ScoredSection(
        section.patient,
        section.section,
        section.labels[order],
        section.scores[:, order],
        section.blocks[order],
    )


def ends(found):
    return found.estimate, found.low, found.high


def test_weights_give_what_repeated_spots_give(cohort):
    sections = cohort(patients=3, side=8, seeds=2)
    fast = interval(sections, "auc", draws=60, seed=4)
    slow = interval(sections, classification.auc, draws=60, seed=4)
    assert ends(fast) == pytest.approx(ends(slow), abs=1e-12)


def test_spread_equals_a_naive_two_level_bootstrap(cohort):
    sections = cohort(patients=5, side=12)
    random = np.random.default_rng(9)
    naive = []
    for _ in range(250):
        values = []
        for pick in random.integers(5, size=5):
            section = sections[pick]
            blocks = random.integers(section.blocks.max() + 1, size=section.blocks.max() + 1)
            spots = np.concatenate([np.flatnonzero(section.blocks == block) for block in blocks])
            values.append(classification.auc(section.labels[spots], section.scores[0, spots]))
        naive.append(np.mean(values))
    drawn, redrawn = bootstrap([sections], "auc", draws=2000, seed=1)
    assert redrawn == 0
    assert drawn.mean() == pytest.approx(np.mean(naive), abs=0.006)
    assert drawn.std() == pytest.approx(np.std(naive), rel=0.2)


def test_estimate_is_the_mean_over_patients_of_the_mean_over_sections_and_seeds(cohort):
    a, b, c = cohort(patients=3, seeds=2)
    b = ScoredSection("P0", "P0b", b.labels, b.scores, b.blocks)
    value = [np.mean([classification.auc(s.labels, row) for row in s.scores]) for s in (a, b, c)]
    found = interval([a, b, c], "auc", draws=20)
    assert found.estimate == pytest.approx(((value[0] + value[1]) / 2 + value[2]) / 2)
    assert found.n == 3 * 144
    assert found.events == sum(s.labels.sum() for s in (a, b, c))
    assert "mean over 2 patients (3 sections); mean over 2 seeds" in found.how


def test_draws_average_the_sections_of_a_patient(cohort):
    good, blind = cohort(patients=1, effect=5.0)[0], cohort(patients=1, effect=0.0, seed=1)[0]
    blind = ScoredSection("P0", "P0b", blind.labels, blind.scores, blind.blocks)
    drawn, _ = bootstrap([[good, blind]], "auc", draws=300)
    assert drawn.mean() == pytest.approx(interval([good, blind], "auc", 10).estimate, abs=0.01)
    assert drawn.mean() < 0.8


@pytest.mark.parametrize("metric", ["auc", "ap"])
def test_order_and_shift_change_nothing(cohort, metric):
    sections = cohort()
    found = ends(interval(sections, metric, draws=200))
    assert ends(interval([shuffled(s) for s in sections], metric, draws=200)) == found
    assert ends(interval(sections[::-1], metric, draws=200)) == found
    moved = [s.with_scores(2 * s.scores + 7) for s in sections]
    assert ends(interval(moved, metric, draws=200)) == found
    assert ends(interval(sections, metric, draws=200, seed=1)) != found


def test_negated_scores_mirror_the_interval(cohort):
    sections = cohort()
    estimate, low, high = ends(interval(sections, "auc", draws=200))
    mirrored = ends(interval([s.with_scores(-s.scores) for s in sections], "auc", draws=200))
    assert mirrored == pytest.approx((1 - estimate, 1 - high, 1 - low), abs=1e-12)


def test_effect_and_no_effect(cohort):
    assert interval(cohort(effect=2.0), "auc").low > 0.85
    null = interval(cohort(effect=0.0), "auc")
    assert null.low < 0.5 < null.high


def test_blocks_widen_the_interval_of_correlated_spots():
    # labels and errors shared by 16 spots: nine times 16 copies are nine observations, not 144
    side = 24
    cell = np.arange(side) // 4
    block = (cell[:, None] * 6 + cell[None, :]).ravel()
    random = np.random.default_rng(0)
    of_block = (random.random(36) < 0.5).astype(float)
    scores = (of_block + random.normal(size=36))[block] + 0.01 * random.normal(size=block.size)
    spatial = interval([ScoredSection("P", "s", of_block[block], scores, block)], "auc")
    single = interval([ScoredSection("P", "s", of_block[block], scores, np.arange(block.size))], "auc")
    assert spatial.high - spatial.low > 2.5 * (single.high - single.low)


def test_coverage_of_the_mean_over_patients():
    # patients differ in effect: a shift a patient; truth is the mean of Phi(shift / sqrt 2)
    from scipy.stats import norm

    random = np.random.default_rng(5)
    shifts = random.normal(1.0, 0.5, size=100000)
    truth = norm.cdf(shifts / np.sqrt(2)).mean()
    covered = []
    for repeat in range(80):
        sections = []
        for number in range(10):
            labels = (random.random(60) < 0.5).astype(float)
            scores = random.normal(1.0, 0.5) * labels + random.normal(size=60)
            sections.append(ScoredSection(str(number), str(number), labels, scores, np.arange(60) // 2))
        found = interval(sections, "auc", draws=200, seed=repeat)
        covered.append(found.low <= truth <= found.high)
    assert 0.86 <= np.mean(covered) <= 1.0


def test_one_patient_resamples_blocks_only(cohort):
    found = interval(cohort(patients=1), "auc", draws=100)
    assert "one patient, 1 section; bootstrap of spatial blocks only" in found.how
    assert found.low < found.estimate < found.high


def test_a_draw_without_a_value_is_drawn_again_and_counted():
    labels = np.r_[np.ones(4), np.zeros(12)]  # cancer in one block of four
    section = ScoredSection("P", "s", labels, np.arange(16)[::-1].astype(float), np.arange(16) // 4)
    drawn, redrawn = bootstrap([[section]], "auc", draws=500)
    assert np.all(drawn == 1.0)  # a draw scored 0 for want of cancer would show here
    # P(no cancer block, or nothing else) = (3/4)^4 + (1/4)^4 = 0.320: 0.471 redraws a draw
    assert redrawn / 500 == pytest.approx(0.471, abs=0.12)
    assert f"{redrawn} section draws" in interval([section], "auc", draws=500).how


def test_a_section_without_a_value_is_named(cohort):
    sections = cohort(patients=3)
    sections[1] = ScoredSection(
        "P1", "P1a", np.ones_like(sections[1].labels), sections[1].scores, sections[1].blocks
    )
    found = interval(sections, "auc", draws=50)
    assert "mean over 2 patients" in found.how
    assert "section P1a of P1 left out: all 144 cases are positive" in found.how
    assert found.n == 2 * 144
    with pytest.raises(NotComputable, match="section P1a of P1: all 144 cases are positive"):
        interval([sections[1]], "auc")


def test_hopeless_blocks_are_refused():
    # each class in one block, of which a draw of two may hold both: fine; all in one block of two: never
    section = ScoredSection("P", "s", [1, 0, 1], [0.1, 0.2, 0.3], [0, 0, 0])
    found = interval([section], "auc", draws=20)
    assert found.low == found.estimate == found.high


def test_misuse(cohort):
    sections = cohort(patients=2)
    with pytest.raises(ValueError, match="unknown metric"):
        interval(sections, "roc")
    with pytest.raises(ValueError, match="given twice"):
        interval([sections[0], sections[0]], "auc")
    with pytest.raises(ValueError, match="no section"):
        interval([], "auc")


def test_undetermined_spots_are_told():
    labels = np.r_[np.ones(10), np.zeros(10), np.full(5, np.nan)]
    section = ScoredSection.of_spots("P", "s", labels, np.arange(25.0), np.c_[np.arange(25), np.zeros(25)], 2)
    assert "5 undetermined spots left out" in interval([section], "auc", draws=20).how


def test_eight_patients_of_400_spots_take_less_than_two_seconds(cohort):
    sections = cohort(patients=8, side=20)
    start = time.process_time()
    interval(sections, "auc", draws=1000)
    assert time.process_time() - start < 2
