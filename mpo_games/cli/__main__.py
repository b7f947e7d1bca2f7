"""`python -m mpo_games.cli`: the command line where its script is not on the path."""

import sys

from mpo_games.cli import main

if __name__ == "__main__":
    sys.exit(main())
