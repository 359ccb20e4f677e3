import pytest

from lib.fusion.params import FusionParams


def test_a_head_of_ones_own_is_a_contender_with_and_without_offset():
    own = {"film": "book/heads/film.py:FiLM"}
    params = FusionParams(own_heads=own, models=["film", "film+offset", "clinic"])
    assert params.networks == ["film", "film+offset"]


def test_a_name_that_nobody_has_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'concat'"):
        FusionParams(models=["concatt"])
    with pytest.raises(ValueError, match="give yours another name"):
        FusionParams(own_heads={"concat": "mine.py:Mine"})
