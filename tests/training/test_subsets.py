"""All choices of modalities."""

import pytest

from lib.gcmlm.tables import subset_name, subset_of, subsets


def test_seven_of_three_in_the_cohorts_order():
    names = [subset_name(one) for one in subsets(["clinical", "ct", "slide"])]
    wanted = ["clinical", "ct", "slide", "clinical+ct", "clinical+slide", "ct+slide", "clinical+ct+slide"]
    assert names == wanted
    assert [subset_name(subset_of(name)) for name in names] == names


@pytest.mark.parametrize("wrong", [[], ["ct", "ct"], ["ct+pet"], [""]])
def test_names_that_could_not_be_told_apart_are_refused(wrong):
    with pytest.raises(ValueError, match="each once and without"):
        subsets(wrong)
