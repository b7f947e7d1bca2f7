"""The command `mpo-llm fit-preferences`: learn two judges from comparisons, and save them."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

from mpo_games.checks import require_count
from mpo_llm import prompts
from mpo_llm.config import PromptsConfig
from mpo_llm.estimates import FEWEST, plain
from mpo_llm.judges.criteria import minilm_folder
from mpo_llm.judges.fit import Fit, Fitted, Quality, fit_both
from mpo_llm.judges.pairs import pairs
from mpo_llm.judges.pairwise import Encoder
from mpo_llm.networks import loading as model_loading
from mpo_llm.outputs import require_writable


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
    """Learn a pairwise and a Bradley-Terry model from `source`, and save both in `folder`.

    `folder` then holds `pairwise/`, `bradley_terry/` and `report.json`, their quality on held-out
    comparisons. `source`, `label` and `split` are as in `pairs` and `PromptsConfig`. `model` is the
    encoder, a transformer by name or path, MiniLM when empty; `longest` counts tokens of prompt and
    response. `ValueError` for bad data, or if the folder exists.
    """
    # Checked before the fit, which may take long.
    if folder.exists():
        raise ValueError(f"There is already something at {folder}.")
    require_writable(folder)
    model_loading.usable(device)
    if longest < 1:
        raise ValueError(f"`longest` must leave room for a response, got {longest} tokens.")
    require_count("seed", seed, least=0)
    rows = list(prompts.records(PromptsConfig(source, split)))
    try:
        found = pairs(rows, label)
    except ValueError as error:
        raise ValueError(f"{source!r}: {error}") from error
    path = model_loading.folder(model) if model else minilm_folder()
    fitted = fit_both(found, Encoder.load(path, device=device, longest=longest), fit, seed)
    fitted.pairwise.save(folder / "pairwise")
    fitted.bradley_terry.save(folder / "bradley_terry")
    (folder / "report.json").write_text(
        json.dumps(as_json(fitted), indent=2) + "\n", encoding="utf-8"
    )
    return fitted


def as_json(fitted: Fitted) -> dict[str, object]:
    """The quality of both models, as JSON; an estimate has its value, error and interval."""
    # Field by field, because the fit holds the two networks as well.
    return {
        "pairwise": plain(fitted.pairwise_quality),
        "bradley_terry": plain(fitted.bradley_terry_quality),
        "ahead": plain(fitted.ahead),
    }


def summary(fitted: Fitted) -> str:
    """A table of the two models' quality, and a sentence that says which one to train on."""
    lines = [f"{'held out':16}{'accuracy':>18}{'log loss':>18}{'calibration error':>20}"]
    for name, quality in (
        ("pairwise", fitted.pairwise_quality),
        ("Bradley-Terry", fitted.bradley_terry_quality),
    ):
        lines.append(_line(name, quality))
    low, high = fitted.ahead.interval
    verdict = "a score explains these preferences equally well"
    if isnan(low):
        verdict = f"fewer than {FEWEST} independent comparisons are held out, which tell nothing"
    elif low > 0.0:
        verdict = "no score explains these preferences: train on the pairwise model"
    elif high < 0.0:
        verdict = "the score generalises better: train on the Bradley-Terry model"
    return "\n".join([*lines, f"pairwise is ahead by {fitted.ahead} in accuracy: {verdict}"])


def _line(name: str, quality: Quality) -> str:
    return (
        f"{name:16}{quality.accuracy!s:>18}{quality.log_loss!s:>18}"
        f"{quality.calibration_error:>20.3f}"
    )
