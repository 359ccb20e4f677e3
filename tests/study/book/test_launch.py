import pytest

from lib.study.book.launch import binder_of, repository_of


@pytest.mark.parametrize("given", [{}, {"repo-url": ""}, {"repo-url": None}])
def test_a_book_without_an_address_has_no_binder(given):
    assert repository_of({"book": given}) == ""
    assert binder_of(repository_of({"book": given}), "spacrd", "3-train") == ""


@pytest.mark.parametrize("end", ["", "/", ".git"])
def test_binder_opens_the_source_notebook(end):
    address = repository_of({"book": {"repo-url": f"https://github.com/someone/cross.book{end}"}})
    assert binder_of(address, "spacrd", "3-train") == (
        "https://mybinder.org/v2/gh/someone/cross.book/HEAD?labpath=notebooks%2Fspacrd%2F3-train.ipynb"
    )


def test_an_address_that_binder_does_not_know_gives_none():
    assert binder_of("https://git.example.org/someone/crossbook", "spacrd", "3-train") == ""


@pytest.mark.parametrize(
    "address", ["git@github.com:someone/crossbook", "http://github.com/a/b", "crossbook"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="repo-url"):
        repository_of({"book": {"repo-url": address}})
