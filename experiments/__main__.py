"""`python experiments [NAME...]`: compute, draw, and write the claims table and the page.

Without names: the core experiments are computed (what is cached is kept), every other figure is
redrawn from its committed result.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # `python experiments` puts this folder on the path; the package is found from its parent.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    import tyro

    from experiments.lab.command import main

    tyro.cli(main, prog="python experiments")
