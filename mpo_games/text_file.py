"""Text from files, in the encodings that spreadsheets and editors write."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

# UTF-32 first, because its mark begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
"""The marks with which a file says its encoding."""


def marked(head: bytes) -> str | None:
    """The encoding that the mark at the head of a file names; None if there is no mark."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def read_text(path: Path) -> str:
    r"""The text of a file, with `\n` at the ends of lines.

    It is UTF-8, or UTF-16 or UTF-32 with its mark, or else Windows-1252, the encoding of older
    spreadsheets. `ValueError` for a file that cannot be read, or that is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    named = marked(content)
    for encoding in [named] if named else ["utf-8", "cp1252"]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Bytes of another kind often decode, too, but hardly without control characters.
        if re.search("[\x00-\x08\x0e-\x1f]", text):
            break
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise ValueError(f"{str(path)!r} is no text: save it as UTF-8.")
