"""The earlier address of `mpo_llm.step.kl_forms`, for scripts written before release 0.2."""

import sys

from mpo_llm.step import kl_forms
from mpo_llm.step.kl_forms import *  # noqa: F403  (for type checkers)

# The same module under both names, and not one with copies of its names.
sys.modules[__name__] = kl_forms
