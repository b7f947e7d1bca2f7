"""The subcommands of preferences and evaluation; each prints what its function finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mpo_llm.preferences.command import fit_preferences, summary
from mpo_llm.preferences.fit import Fit


@dataclass(frozen=True)
class FitPreferences:
    """Learn a pairwise preference model and a Bradley-Terry reward model from comparisons."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PAIRS")]
    """A .jsonl, .csv or .parquet file, or a data set: prompt, chosen and rejected, or the columns
    of PKU-SafeRLHF."""
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the two models and `report.json` go: a folder that does not exist yet."""
    model: str = ""
    """The transformer that reads: a name or a folder; MiniLM when empty."""
    label: str = "better_response_id"
    """The column with the better response's number, in PKU-SafeRLHF's format."""
    split: str = "train"
    """Which split of a data set."""
    longest: int = 512
    """Tokens of prompt and response together; of longer ones the beginning is cut."""
    fit: Fit = Fit()
    """How they are learned."""
    device: str = "cpu"
    """Where, as torch names it."""
    seed: int = 0
    """Of the split, the first weights and the order."""

    def run(self) -> str:
        """Fit and save; both models' quality on comparisons held out."""
        fitted = fit_preferences(
            self.data,
            self.folder,
            self.fit,
            model=self.model,
            label=self.label,
            split=self.split,
            longest=self.longest,
            device=self.device,
            seed=self.seed,
        )
        return f"{summary(fitted)}\nsaved to {self.folder}"
