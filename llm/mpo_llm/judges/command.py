"""`mpo-llm fit-preferences`: from a file of comparisons to two saved judges and what they know."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from mpo_llm import prompts
from mpo_llm.config import PromptsConfig
from mpo_llm.judges.criteria import minilm_folder
from mpo_llm.judges.fit import Fit, Fitted, Quality, fit_both
from mpo_llm.judges.pairs import pairs
from mpo_llm.judges.pairwise import Reader
from mpo_llm.networks import loading as models


def fit_preferences(
    source: str,
    folder: Path,
    fit: Fit,
    *,
    model: str = "",
    label: str = "better_response_id",
    split: str = "train",
    longest: int = 512,
    device: str = "cpu",
    seed: int = 0,
) -> Fitted:
    """Learn both models from `source` and save them, with `report.json`, in `folder`.

    `model` is a transformer by name or path, MiniLM when empty. `ValueError` for bad data, or if
    the folder exists.
    """
    if folder.exists():
        raise ValueError(f"There is already something at {folder}.")
    found = pairs(list(prompts.rows(PromptsConfig(source, split))), label)
    path = models.folder(model) if model else minilm_folder()
    fitted = fit_both(found, Reader.load(path, device=device, longest=longest), fit, seed)
    fitted.pairwise.save(folder / "pairwise")
    fitted.bradley_terry.save(folder / "bradley_terry")
    (folder / "report.json").write_text(json.dumps(as_json(fitted), indent=2) + "\n")
    return fitted


def as_json(fitted: Fitted) -> dict[str, object]:
    """Everything measured."""
    return {
        "pairwise": asdict(fitted.pairwise_quality),
        "bradley_terry": asdict(fitted.bradley_terry_quality),
        "ahead": asdict(fitted.ahead),
    }


def summary(fitted: Fitted) -> str:
    """The two models side by side, and what that says of the data."""
    lines = [f"{'held out':16}{'accuracy':>18}{'log loss':>18}{'calibration error':>20}"]
    for name, quality in (
        ("pairwise", fitted.pairwise_quality),
        ("Bradley-Terry", fitted.bradley_terry_quality),
    ):
        lines.append(_line(name, quality))
    low, high = fitted.ahead.interval
    verdict = "a score explains these preferences as well"
    if low > 0.0:
        verdict = "no score explains these preferences: train on the pairwise model"
    elif high < 0.0:
        verdict = "the score generalises better: train on the Bradley-Terry model"
    return "\n".join([*lines, f"pairwise ahead by {fitted.ahead} of accuracy: {verdict}"])


def _line(name: str, quality: Quality) -> str:
    return (
        f"{name:16}{quality.accuracy!s:>18}{quality.log_loss!s:>18}"
        f"{quality.calibration_error:>20.3f}"
    )
