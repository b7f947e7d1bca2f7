"""`python docs/raw_marks.py PAGE_OR_FOLDER...`: do pages show marks that nobody was meant to see?

Formulas between dollars, stars and backticks are for writers. Where a converter does not understand
them, readers see them: this looks for them in the text of HTML pages, outside of code and scripts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

MARKS = re.compile(r"\$|\*\*|`|\\[A-Za-z]+|(?<![\w*])\*\w[^*]*\w\*(?![\w*])")
"""A dollar, two stars, a backtick, a command of LaTeX, words between stars (but not `p*`)."""
UNREAD = {"script", "style", "pre", "code", "dt", "title", "annotation"}
"""What these elements hold is no text, or shows marks on purpose."""


class _Text(HTMLParser):
    """The text of a page, less what `UNREAD` holds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within += tag in UNREAD
        self.found += [value for name, value in attrs if name == "alt" and value]

    def handle_endtag(self, tag: str) -> None:
        self._within -= tag in UNREAD

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.found.append(data)


def raw(html: str) -> Iterator[str]:
    """The places of a page that show a raw mark, with the words around it."""
    parser = _Text()
    parser.feed(html)
    for text in parser.found:
        for mark in MARKS.finditer(text):
            around = text[max(0, mark.start() - 40) : mark.end() + 40]
            yield " ".join(around.split())


def main(paths: list[str]) -> None:
    """Name every raw mark in the pages; the exit status is 1 if there is one."""
    pages = [
        page
        for path in map(Path, paths)
        for page in (sorted(path.rglob("*.html")) if path.is_dir() else [path])
        # The source code of modules, which is code from end to end.
        if "_modules" not in page.parts
    ]
    if not pages:
        raise SystemExit("There is no page to look at.")
    found = [(page, words) for page in pages for words in raw(page.read_text(encoding="utf-8"))]
    for page, words in found:
        print(f"{page}: {words}")
    if found:
        raise SystemExit(f"{len(found)} raw marks in {len(pages)} pages.")


if __name__ == "__main__":
    main(sys.argv[1:])
