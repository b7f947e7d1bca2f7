"""Judges learned from comparisons: planted cycles, planted scores, formats of data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import mpo_games as mg
import tiny
from mpo_llm import cli, judges
from mpo_llm.judges import named
from mpo_llm.judges.fit import quality
from mpo_llm.judges.pairwise import Head, log_odds

STYLES = ("rock", "paper", "scissors")


def bert(folder: Path) -> Path:
    """The folder of a tiny BERT with random weights."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tiny.WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
    )
    transformers.BertModel(config).save_pretrained(folder)
    found = tiny.tokenizer()
    found.chat_template = None
    found.save_pretrained(folder)
    return folder


def planted(kind: str, count: int, noise: float = 0.1, seed: int = 0) -> list[judges.Pair]:
    """Comparisons of responses of three styles; in a share `noise` of them the worse one is chosen.

    In `cycles` paper beats rock, scissors beats paper, and rock beats scissors. In `scores`
    scissors beats paper, and both beat rock.
    """
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        one, two = rng.permutation(3)[:2]
        ahead = (one - two) % 3 == 1 if kind == "cycles" else one > two
        if rng.random() < noise:
            ahead = not ahead
        prompt = " ".join(rng.choice(list("abcdefgh"), 3)) + " " + "a " * (i % 4)
        texts = [
            " ".join([*rng.choice(list("abcdefgh"), rng.integers(1, 4)), STYLES[style]])
            for style in ((one, two) if ahead else (two, one))
        ]
        found.append(judges.Pair(prompt.strip(), *texts))
    return found


FIT = judges.Fit(planes=2, epochs=25, rate=3e-3, held_out=0.2)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> judges.Encoder:
    return judges.Encoder.load(bert(tmp_path_factory.mktemp("encoder")), batch=128)


@pytest.mark.parametrize("kind", ["cycles", "scores"])
def test_planted_preferences(kind: str, encoder: judges.Encoder) -> None:
    """No model can be right more often than .9; on cycles a score is right half of the time."""
    fitted = judges.fit_both(planted(kind, 900), encoder, FIT)
    two, one = fitted.pairwise_quality, fitted.bradley_terry_quality
    assert two.accuracy.interval[1] > 0.88
    assert two.calibration_error < 0.15  # of 180 comparisons in 10 bins .07 is noise
    if kind == "cycles":
        assert one.accuracy.interval[1] < 0.7
        assert fitted.ahead.interval[0] > 0.2
        assert one.log_loss.value > 0.65 > two.log_loss.interval[1]
    else:
        assert one.accuracy.interval[1] > 0.88
        assert fitted.ahead.interval[0] <= 0.02


def table(judge: Callable[..., Any]) -> np.ndarray:
    """The mean preferences between the three styles, `(3, 3)`, over texts of the planted kind."""
    rng = np.random.default_rng(9)
    found = np.zeros((3, 3))
    for _ in range(30):
        x = " ".join(rng.choice(list("abcdefgh"), 3))
        ys = [" ".join([*rng.choice(list("abcdefgh"), 2), style]) for style in STYLES]
        first, second = zip(*[(a, b) for a in ys for b in ys], strict=True)
        found += np.reshape(judge([x] * 9, first, second), (3, 3)) / 30
    return found


def test_what_was_learned_is_a_game(encoder: judges.Encoder) -> None:
    """The table of the styles has the planted cycle; its equilibrium is close to 1/3 each."""
    found = table(judges.fit_both(planted("cycles", 900), encoder, FIT).pairwise)
    np.testing.assert_allclose(found + found.T, 1.0, atol=1e-12)
    np.testing.assert_array_equal(found > 0.7, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    probs = mg.exact.nash(mg.PreferenceGame(found)).policy.probs
    np.testing.assert_allclose(probs, 1 / 3, atol=0.1)


def test_the_encoder_can_be_trained(encoder: judges.Encoder) -> None:
    """A copy of the encoder is trained; the given encoder does not change."""
    before = {n: p.clone() for n, p in encoder.model.named_parameters()}
    fit = judges.Fit(planes=1, epochs=2, encoder_rate=1e-3, held_out=0.2)
    fitted = judges.fit_both(planted("cycles", 120), encoder, fit)
    after = dict(fitted.pairwise.encoder.model.named_parameters())
    assert any(not torch.equal(after[n], p) for n, p in before.items())
    for n, p in encoder.model.named_parameters():
        assert torch.equal(p, before[n])


def test_same_seed_same_model(encoder: judges.Encoder) -> None:
    fit = judges.Fit(planes=1, epochs=2, held_out=0.2)
    one, two = (judges.fit_both(planted("scores", 100), encoder, fit, seed=3) for _ in range(2))
    assert one.pairwise_quality == two.pairwise_quality


@pytest.mark.parametrize("planes", [0, 1, 5])
def test_antisymmetry_by_construction(planes: int) -> None:
    """It is exact for any weights. Without planes the log-odds are differences of scores."""
    torch.manual_seed(planes)
    c = Head(6, planes)(torch.randn(4, 6))
    odds = log_odds(c[:, None], c[None])
    assert torch.equal(odds, -odds.T)
    if not planes:
        torch.testing.assert_close(odds, c[:, None, 0] - c[None, :, 0])
    else:
        assert not torch.allclose(odds[0, 1] + odds[1, 2], odds[0, 2])


def test_planes_can_hold_any_game() -> None:
    """A skew-symmetric matrix of size 2 n needs n planes, by its real Schur form."""
    from scipy.linalg import schur

    rng = np.random.default_rng(0)
    skew = rng.normal(size=(6, 6))
    skew = skew - skew.T
    t, z = schur(skew, output="real")
    columns = [np.zeros(6)]
    for k in range(0, 6, 2):
        scale = np.sqrt(abs(t[k, k + 1]))
        columns += [z[:, k] * scale, np.sign(t[k, k + 1]) * z[:, k + 1] * scale]
    c = torch.from_numpy(np.stack(columns, axis=1))
    np.testing.assert_allclose(log_odds(c[:, None], c[None]).numpy(), skew, atol=1e-12)


def test_quality_by_hand() -> None:
    odds = np.log([3.0, 3.0, 1 / 3.0, 1.0])
    q = quality(odds, np.arange(4))
    assert q.accuracy.value == (1 + 1 + 0 + 0.5) / 4
    assert q.log_loss.value == pytest.approx(-np.log([0.75, 0.75, 0.25, 0.5]).mean())
    assert q.calibration_error == pytest.approx(0.75 * abs(0.75 - 2 / 3))


def test_a_model_is_saved_and_loaded(encoder: judges.Encoder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = judges.PreferenceModel(encoder, Head(encoder.width, 2))
    model.save(tmp_path / "saved")
    x, a, b = ["a", "b c"], ["rock", "paper a"], ["a b", "rock"]
    np.testing.assert_allclose(
        judges.PreferenceModel.load(tmp_path / "saved")(x, a, b), model(x, a, b)
    )
    assert not list((tmp_path / "saved").glob("*.bin"))
    with pytest.raises(ValueError, match="holds no preference model"):
        judges.PreferenceModel.load(tmp_path)


def test_a_causal_encoder_takes_the_last_token(tmp_path: Path) -> None:
    """Embeddings in batches equal those of single texts: padding is never seen."""
    tiny.save(tmp_path)
    encoder = judges.Encoder.load(tmp_path, batch=2)
    assert encoder.causal()
    x, y = ["a", "a b c d", "c"], ["rock", "paper", "a b scissors"]
    with torch.no_grad():
        together = encoder.embed(x, y)
        alone = torch.cat([encoder.embed([p], [r]) for p, r in zip(x, y, strict=True)])
        ids = encoder.tokenizer(
            "<user> a <bot> rock", add_special_tokens=False, return_tensors="pt"
        )
        by_hand = encoder.model(**ids)[0][0, -1]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[0], by_hand, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------- formats


def test_formats() -> None:
    say = [{"role": "user", "content": "x"}]
    answers = [[*say, {"role": "assistant", "content": text}] for text in ("good", "bad")]
    safe = {"prompt": "x", "response_0": "bad", "response_1": "good", "safer_response_id": 1}
    rows = [
        {"prompt": "x", "chosen": "good", "rejected": "bad"},
        {"prompt": say, "chosen": answers[0][1:], "rejected": answers[1][1:]},
        {"chosen": answers[0], "rejected": answers[1]},
        safe,
    ]
    assert judges.pairs(rows, "safer_response_id") == [judges.Pair("x", "good", "bad")] * 4


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "x", "chosen": "y"}, "Row 2 has the columns prompt, chosen: needed are"),
        ({"prompt": "x", "chosen": 3, "rejected": "z"}, "Row 2: `chosen` must be a text"),
        ({"prompt": "x", "response_0": "a", "response_1": "b"}, "must be 0 or 1, got None"),
        ({"chosen": "y", "rejected": "z"}, "Row 2 has no `prompt`"),
    ],
)
def test_bad_rows_are_named(row: dict[str, object], match: str) -> None:
    good = {"prompt": "x", "chosen": "y", "rejected": "z"}
    with pytest.raises(ValueError, match=match):
        judges.pairs([good, row])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"planes": -1}, "`planes` at least 0"),
        ({"held_out": 0.5}, "`held_out` must lie between"),
        ({"rate": 0.0}, "must not be negative"),
    ],
)
def test_bad_settings(options: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        judges.Fit(**options)  # type: ignore[arg-type]


def test_too_little_data(encoder: judges.Encoder) -> None:
    with pytest.raises(ValueError, match="3 comparisons are too few to hold 10% of them out"):
        judges.fit_both(planted("cycles", 3), encoder, judges.Fit())
    with pytest.raises(ValueError, match="`planes` must be at least 1"):
        judges.fit_both(planted("cycles", 30), encoder, judges.Fit(planes=0))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command saves a judge that a configuration can name."""
    data = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected}
        for p in planted("cycles", 600)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model, out = bert(tmp_path / "encoder"), tmp_path / "out"
    arguments = ["fit-preferences", str(data), str(out), "--model", str(model), "--device", "cpu"]
    arguments += ["--fit.planes", "2", "--fit.rate", "3e-3", "--fit.epochs", "25"]
    arguments += ["--fit.reader-rate", "0"]  # the name of `encoder_rate` in release 0.1.0
    assert cli.main(arguments) == 0
    assert "no score explains these preferences" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["pairwise"]["accuracy"]["value"] > report["bradley_terry"]["accuracy"]["value"]
    judge = named.preference_model(str(out / "pairwise"), device="cpu")
    np.testing.assert_array_equal(table(judge) > 0.6, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert cli.main(arguments) == 2
    assert "There is already something" in capsys.readouterr().err
