"""Points read off the picture give the model's probability."""

import numpy as np
import pytest
from scipy.special import expit, logit

from lib.gcmlm.figures import Levels, Number, Scales, nomogram

TERMS = [
    Number("age", 0.03, 35, 85, "years"),
    Levels("T stage", {"T2": 0.0, "T3": 0.4, "T4a": 0.9, "T4b": 1.1}),
    Number("CT signature", 0.9, -2.5, 2.4),
    Number("haemoglobin", -0.02, 80, 160, "g/l"),
    Levels("vessel invasion", {"no": 0.0, "yes": 0.8}),
]
INTERCEPT = -2.0


def drawn_patient(rng: np.random.Generator) -> dict:
    return {
        term.name: rng.uniform(term.low, term.high)
        if isinstance(term, Number)
        else str(rng.choice(list(term.log_odds)))
        for term in TERMS
    }


def log_odds(patient: dict) -> float:
    return INTERCEPT + sum(
        term.coefficient * patient[term.name]
        if isinstance(term, Number)
        else term.log_odds[patient[term.name]]
        for term in TERMS
    )


def scale(ax, row: int) -> tuple[list[str], np.ndarray]:
    """Texts of one line of the picture and where they stand, from left to right."""
    found = [
        (text.get_position()[0], text.get_text())
        for text in ax.texts
        if abs(text.get_position()[1] - row) < 0.49
    ]
    x, texts = zip(*sorted(found), strict=True)
    return list(texts), np.array(x)


def test_reading_the_picture_reproduces_the_model(ax):
    ax.figure.set_size_inches(7.5, 4)
    nomogram(ax, TERMS, INTERCEPT, "metastasis")
    totals, along = scale(ax, len(TERMS) + 1)
    chances, below = scale(ax, len(TERMS) + 2)
    rng = np.random.default_rng([2])
    for _ in range(10):
        patient, points = drawn_patient(rng), 0.0
        for row, term in enumerate(TERMS, 1):
            texts, x = scale(ax, row)
            if isinstance(term, Levels):
                points += x[texts.index(patient[term.name])]
            else:  # numbers between and beyond the printed ticks, by ruler
                line = np.polyfit([float(text) for text in texts], x, 1)
                points += np.polyval(line, patient[term.name])
        place = np.polyval(np.polyfit([float(text) for text in totals], along, 1), points)
        read = expit(np.polyval(np.polyfit(below, logit([float(text) for text in chances]), 1), place))
        assert read == pytest.approx(expit(log_odds(patient)), abs=0.005)


def overlapping(ax) -> list[tuple[str, str]]:
    ax.figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in [*ax.texts, *ax.get_yticklabels()]]
    return [
        (a, b)
        for number, (a, one) in enumerate(boxes)
        for b, two in boxes[number + 1 :]
        if a and b and one.overlaps(two)
    ]


@pytest.mark.parametrize("count", [3, 10])
def test_no_text_lies_on_another(ax, count):
    kinds = {"intestinal": 0.0, "diffuse": 0.55, "mixed": 0.5, "unknown": 0.02}
    more = [
        Levels("Lauren type", kinds),
        Levels("sex", {"female": 0.0, "male": 0.08}),
        Number("tiny", 0.001, 0, 50),
        Number("nodes examined", -0.015, 8, 60),
        Number("CEA", 0.002, 0.5, 812.25, "ng/ml"),
    ]
    terms = [*more, *TERMS][:count]
    ax.figure.set_size_inches(7.5, 1.5 + 0.5 * count)
    nomogram(ax, terms, -3.0)
    assert overlapping(ax) == []
    shown = {text.get_text() for text in ax.texts}
    for level in kinds:
        assert any(level in text for text in shown)
    assert next(tick.get_text() for tick in ax.get_yticklabels()) == "points"
    assert len(ax.get_yticklabels()) == count + 3


def test_levels_of_one_effect_share_a_tick(ax):
    nomogram(ax, [Levels("site", {"a": 0.0, "b": 0.0, "c": 1.0})], 0.0)
    assert scale(ax, 1)[0] == ["a, b", "c"]


def test_an_example_is_drawn_with_its_numbers(ax, words):
    patient = drawn_patient(np.random.default_rng([4]))
    nomogram(ax, TERMS, INTERCEPT, patient=patient)
    total = Scales(TERMS, INTERCEPT).total(patient)
    assert f"{total:.0f} points: {expit(log_odds(patient)):.2f}" in words(ax)


def test_a_weak_model_still_has_probabilities_to_read(ax):
    nomogram(ax, [Number("age", 0.001, 40, 80)], -1.9)
    texts, _ = scale(ax, 3)
    assert len(texts) >= 2
    assert all(0.13 <= float(text) <= 0.14 for text in texts)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([], "needs variables"),
        ([TERMS[0], TERMS[0]], "each once"),
        ([Number("age", 1.0, 5, 5)], "no range"),
        ([Levels("sex", {"male": 0.0})], "two levels"),
        ([Number("age", np.nan, 1, 2)], "not finite"),
        ([Number("age", 0.0, 1, 2)], "every effect is 0"),
    ],
)
def test_refusals(ax, terms, said):
    with pytest.raises(ValueError, match=said):
        nomogram(ax, terms, 0.0)


def test_a_patient_without_a_value_is_refused(ax):
    with pytest.raises(ValueError, match=r"lacks \['CT signature'"):
        nomogram(ax, TERMS, 0.0, patient={"age": 50, "T stage": "T3"})
    with pytest.raises(ValueError, match="no level 'T9'"):
        Scales(TERMS, 0.0).points("T stage", "T9")
