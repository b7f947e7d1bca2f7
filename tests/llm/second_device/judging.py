"""Judges that are models, on either device."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

import tiny
from mpo_llm import judges
from mpo_llm.commands import FitPreferences
from mpo_llm.judges import named
from mpo_llm.judges.criteria import Relevance
from second_device.features import Feature, Numbers
from second_device.workflows import on
from test_llm_fit import bert, planted
from test_llm_judging_models import classifier, letters

PROMPTS, ONE, TWO = ["a b", "c", "c d e"], ["rock", "a b c", "d"], ["paper rock", "b", "a rock"]


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def rewards(device: torch.device, folder: Path) -> Numbers:
    path = str(classifier(made(folder)))
    with on(device):
        judge = named.reward_model(path)
    return {"judge": judge(PROMPTS, ONE, TWO)}


def scores(device: torch.device, folder: Path) -> Numbers:
    path = str(classifier(made(folder)))
    with on(device):
        return {"score": named.score(path)(PROMPTS, ONE)}


def language_model(device: torch.device, folder: Path) -> Numbers:
    path = str(letters(made(folder)))
    with on(device):
        question = "{prompt} ? {a} ? {b}"
        judge = named.language_model(path, question=question, sense=0.0, batch=2)
    return {"judge": judge(PROMPTS, ONE, TWO)}


def relevance(device: torch.device, folder: Path) -> Numbers:
    encoder = judges.Encoder.load(bert(made(folder)), device=str(device))
    return {"score": Relevance(encoder.model, tiny.tokenizer())(PROMPTS, ONE)}


def causal_encoder(device: torch.device, folder: Path) -> Numbers:
    encoder = judges.Encoder.load(letters(made(folder)), device=str(device), batch=2)
    return {"embeddings": encoder.embed(PROMPTS, ONE).detach().cpu().numpy()}


def preference_model(device: torch.device, folder: Path) -> Numbers:
    """Learned from comparisons with its encoder, saved, and loaded."""
    encoder = judges.Encoder.load(bert(made(folder / "encoder")), device=str(device))
    fit = judges.Fit(planes=1, epochs=1, encoder_rate=1e-3, held_out=0.2)
    model = judges.fit_both(planted("cycles", 24), encoder, fit).pairwise
    model.save(folder / "saved")
    return {"judge": model(PROMPTS, ONE, TWO)}


def loaded_preference_model(device: torch.device, folder: Path) -> Numbers:
    """Learned on the CPU with the encoder as it is, loaded on the device."""
    encoder = judges.Encoder.load(bert(made(folder / "encoder")))
    fit = judges.Fit(planes=1, epochs=1, held_out=0.2)
    judges.fit_both(planted("cycles", 24), encoder, fit).pairwise.save(folder / "saved")
    with on(device):
        judge = named.preference_model(str(folder / "saved"))
    return {"judge": judge(PROMPTS, ONE, TWO)}


def fit_preferences(device: torch.device, folder: Path) -> Numbers:
    """The command, whose encoder is fixed."""
    data = made(folder) / "pairs.jsonl"
    data.write_text("".join(json.dumps(asdict(p)) + "\n" for p in planted("cycles", 24)))
    fit = judges.Fit(planes=1, epochs=1, held_out=0.2)
    model = str(bert(folder / "encoder"))
    FitPreferences(str(data), folder / "fitted", model, fit=fit, device=str(device)).run()
    judge = judges.PreferenceModel.load(folder / "fitted" / "pairwise")
    return {"judge": judge(PROMPTS, ONE, TWO)}


JUDGES: dict[str, Feature] = {
    "reward model": Feature(rewards, 1e-4),
    "score of a reward model": Feature(scores, 1e-4),
    "language model as judge": Feature(language_model, 1e-4),
    "relevance": Feature(relevance, 1e-4),
    "causal encoder": Feature(causal_encoder, 1e-4),
    "preference model": Feature(preference_model, 1e-4),
    "loaded preference model": Feature(loaded_preference_model, 1e-4),
    "fit-preferences": Feature(fit_preferences, 1e-4),
}
