"""Generated parts of a page: a line `<!-- generated: NAME -->` becomes Markdown made from results/."""

import re

from lib.study.book.chapters import CODE
from lib.study.book.parts import PARTS
from lib.study.book.records import Records

_MARK = re.compile(r"^<!-- *generated: *(\S+)((?: +\S+)*?) *-->[ \t]*$", re.MULTILINE)
_LOOSE = re.compile(r"<!--\s*generated\b.*")


def filled(text: str, page: str, records: Records) -> tuple[str, dict[str, bytes]]:
    """A page with its generated parts written out.

    Parameters
    ----------
    text : str
        Of a page, e.g. with the line ``<!-- generated: answer-age blca -->``: a part's name and what it is given.
    page : str
        The page's place in the book: links are written as seen from it.
    records : Records
        What was run here.

    Returns
    -------
    (str, dict of str to bytes)
        The page, and the pictures it needs by their place in the book.

    Raises
    ------
    ValueError
        If a part has an unknown name, is given the wrong number of words, or does not stand alone on its line.
    """
    pictures: dict[str, bytes] = {}

    def part(match: re.Match) -> str:
        name, given = match[1], match[2].split()
        if name not in PARTS:
            raise ValueError(
                f"{page}: no generated part is called {name}; there are {', '.join(sorted(PARTS))}."
            )
        make, least, most = PARTS[name]
        if not least <= len(given) <= most:
            words = str(least) if least == most else f"{least} to {most}"
            raise ValueError(
                f"{page}: the generated part {name} takes {words} words, given are {len(given)}."
            )
        markdown, needed = make(records, page, *given)
        pictures.update(needed)
        return markdown.strip("\n") + "\n"

    pieces = CODE.split(text)
    for at in range(0, len(pieces), 2):
        pieces[at] = _MARK.sub(part, pieces[at])
        if loose := _LOOSE.search(pieces[at]):
            raise ValueError(
                f"{page}: '{loose[0].strip()}' must be '<!-- generated: NAME -->', alone on its line."
            )
    return "".join(pieces), pictures
