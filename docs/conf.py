"""Sphinx: the notebooks, the guides, the theory, and the reference read off the docstrings.

Nothing is fetched, neither while building nor by the pages: formulas become MathML.
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from mpo_games.explained import FIELDS

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "mpo-games"
author = "The mpo-games authors"
copyright = author
version = release = version_of("mpo-games")
language = "en_GB"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make notebooks` executes them

html_theme = "furo"
html_title = "mpo-games"
html_static_path = ["_static"]
html_extra_path = ["../experiments/playground.html"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

TUTORIALS = HERE / "tutorials"
shutil.rmtree(TUTORIALS, ignore_errors=True)
TUTORIALS.mkdir()
for notebook in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
    shutil.copy(notebook, TUTORIALS)


def formulas(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings write maths between dollars, as Markdown does; autodoc reads reStructuredText."""
    text = "\n".join(lines)
    # `help()` shows the fields in the docstring of the class; autodoc lists them one by one.
    text = text.partition(f"\n{FIELDS}\n")[0]

    def displayed(match: re.Match[str]) -> str:
        body = " ".join(match[1].split())
        return f"\n\n.. math:: {body}\n\n"

    text = re.sub(r"\$\$(.+?)\$\$", displayed, text, flags=re.S)
    text = re.sub(r"(?<![\w$\\])\$([^$\n]+(?:\n[^$\n]+)?)\$", r":math:`\1`", text)
    # A role ends at the backtick only if no letter follows; the escaped space shows nothing.
    text = re.sub(r"(:math:`[^`]+`)(?=\w)", r"\1\\ ", text)
    if what == "attribute":  # napoleon takes what stands before the first colon for a type
        text = ": " + text
    lines[:] = text.split("\n")


def mathml(tex: str, block: bool) -> str:
    r"""TeX as MathML, less what docutils does not know: sizes, and `\frac12` without braces."""
    tex = re.sub(r"\\(big|Big|textstyle)(?![a-z])", "", tex)
    tex = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", tex)
    return str(tex2mathml(tex, as_block=block))


def _write(self: Any, node: Any, block: bool) -> None:
    self.body.append(mathml(node.astext(), block))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Formulas as MathML, which browsers draw by themselves."""
    app.connect("autodoc-process-docstring", formulas, priority=400)  # before napoleon
    app.add_html_math_renderer(
        "mathml",
        (lambda self, node: _write(self, node, False), None),
        (lambda self, node: _write(self, node, True), None),
    )
