"""Parts of the book that are made from results: name -> (function, fewest and most words it is given)."""

from lib.study.book.parts.cancers import answer_age, cross_cancer
from lib.study.book.parts.controls import demo_null
from lib.study.book.parts.costs import cost
from lib.study.book.parts.estimates import estimate
from lib.study.book.parts.habits import deviations
from lib.study.book.parts.origins import citation, provenance
from lib.study.book.parts.printed import margin, printed
from lib.study.book.parts.rivals import rivals
from lib.study.book.parts.runs import disk, runs, unit_costs
from lib.study.book.parts.standings import standings, studies

PARTS = {
    "answer-age": (answer_age, 1, 1),
    "citation": (citation, 0, 0),
    "cost": (cost, 0, 0),
    "cross-cancer": (cross_cancer, 0, 0),
    "demo-null": (demo_null, 0, 1),
    "deviations": (deviations, 0, 1),
    "disk": (disk, 0, 0),
    "estimate": (estimate, 0, 0),
    "margin": (margin, 2, 2),
    "printed": (printed, 1, 1),
    "provenance": (provenance, 0, 0),
    "rivals": (rivals, 0, 0),
    "runs": (runs, 0, 1),
    "standings": (standings, 0, 0),
    "studies": (studies, 0, 0),
    "unit-costs": (unit_costs, 0, 0),
}
