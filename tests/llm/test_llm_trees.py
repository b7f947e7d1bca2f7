"""Trees that networks play in tokens: what they play, how far from equilibrium, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mpo_games as mg
import mpo_llm as ml
from mpo_games.games import openspiel
from mpo_llm.trees import TextTreeGame, Wording, compact, kuhn, leduc, liars_dice, verbatim
from mpo_llm.trees.answers import actions_of, labels_of
from spoken import END, Unconditional, characters, game, network

OF_DICE = "liars_dice(dice_sides=3)"

WORDINGS: dict[str, Callable[[], Wording]] = {
    "kuhn_poker": kuhn,
    "leduc_poker": leduc,
    OF_DICE: lambda: liars_dice(3),
}


def spoken(name: str, wording: Wording, seed: int = 0) -> TextTreeGame:
    """A game told in texts of single characters, answers with an end."""
    tree, tokenizer = mg.load(name), characters()
    describe, say = wording.encoded(tokenizer)
    labels = labels_of(tree.tree)
    context = max(len(describe(label)) for label in labels) + 8
    torch.manual_seed(seed)
    module = ml.SmallTransformer(len(tokenizer), context, width=8, layers=1)
    torch.nn.init.normal_(module.head.weight, std=0.5)
    decoding = ml.Decoding(max_tokens=6, eos=END)
    start = ml.TokenPolicy.of(ml.PlainNetwork(module, context=context, prefixes=True), decoding)
    return TextTreeGame(tree, start, describe, lambda *at: (*say(*at), END))


def exploitability(name: str, played: TextTreeGame, policy: Any) -> float:
    exploit = pytest.importorskip("open_spiel.python.algorithms.exploitability")
    table = openspiel.to_openspiel(name, played.tree, policy.play)
    return float(exploit.exploitability(openspiel.turn_based(name), table))


@pytest.mark.parametrize("name", ["kuhn_poker", OF_DICE])
@pytest.mark.parametrize("told", ["compact", "english", "verbatim"])
def test_the_gap_is_that_of_openspiel(name: str, told: str) -> None:
    if told == "compact":
        played = game(name)
    else:
        wording = WORDINGS[name]()
        played = spoken(name, wording if told == "english" else Wording(verbatim, wording.say))
    policy = played.initial_policy()
    mine = 0.5 * float(played.duality_gap(policy))
    assert mine == pytest.approx(exploitability(name, played, policy), abs=1e-9)
    assert float(np.ptp(policy.probs[2:])) > 0.1


def test_the_gap_of_leduc_is_that_of_openspiel() -> None:
    played = game("leduc_poker", prefixes=True)
    policy = played.initial_policy()
    mine = 0.5 * float(played.duality_gap(policy))
    assert mine == pytest.approx(exploitability("leduc_poker", played, policy), abs=1e-9)


def test_a_policy_that_ignores_its_prompt_has_the_gap_of_its_table() -> None:
    tree = mg.load("leduc_poker")
    words = compact(tree)
    logits = torch.tensor([0.3, -0.4, 0.9])
    net = ml.PlainNetwork(Unconditional(logits), context=words.context)
    start = ml.TokenPolicy.of(net, words.decoding)
    played = TextTreeGame(tree, start, words.describe, words.say)
    names = list(dict.fromkeys(actions_of(tree.tree)[2:]))
    power = np.exp(logits.numpy().astype(float))
    probs = np.ones(tree.tree.sequences)
    probs[2:] = [power[names.index(a)] for a in actions_of(tree.tree)[2:]]
    total = np.add.reduceat(probs, tree.tree.offset[:-1])
    probs[2:] /= np.repeat(total, np.diff(tree.tree.offset))
    table = mg.TreeplexPolicy.from_probs(tree.tree, tree.geometry, probs)
    policy = played.initial_policy()
    assert float(played.duality_gap(policy)) == pytest.approx(
        float(tree.duality_gap(table)), abs=1e-6
    )
    # What is not legal at a state has the probability that the table's row leaves out.
    np.testing.assert_allclose(policy.legal, total / power.sum(), atol=1e-6)


def test_answers_of_several_tokens_with_common_beginnings() -> None:
    tree = mg.load("kuhn_poker")
    logits = torch.tensor([0.2, -0.5, 0.7, 0.1])
    labels = {label: (3, i) for i, label in enumerate(tree.tree.labels)}
    answers = [(0, 1), (0, 2)]
    net = ml.PlainNetwork(Unconditional(torch.cat([logits, torch.zeros(9)])), context=9)
    start = ml.TokenPolicy.of(net, ml.Decoding(max_tokens=3, vocabulary=4))
    names = list(dict.fromkeys(actions_of(tree.tree)[2:]))
    played = TextTreeGame(
        tree, start, labels.__getitem__, lambda _, action: answers[names.index(action)]
    )
    policy = played.initial_policy()
    p = torch.softmax(logits.double(), 0).numpy()
    each = np.array([np.prod(p[list(a)]) for a in answers])
    np.testing.assert_allclose(policy.legal, each.sum(), atol=1e-7)
    np.testing.assert_allclose(policy.probs[2:4], each / each.sum(), atol=1e-7)


def test_two_networks_play_a_seat_each() -> None:
    tree = mg.load("kuhn_poker")
    words = compact(tree)
    one, two = (ml.TokenPolicy.of(network(words, seed=s), words.decoding) for s in (1, 2))
    both = TextTreeGame(tree, (one, two), words.describe, words.say)
    alone = TextTreeGame(tree, one, words.describe, words.say)
    other = alone.played(two)
    policy, first = both.initial_policy(), alone.initial_policy()
    own = tree.tree.own(0), tree.tree.own(1)
    np.testing.assert_allclose(policy.probs[own[0]], first.probs[own[0]], atol=1e-7)
    np.testing.assert_allclose(policy.probs[own[1]], other.probs[own[1]], atol=1e-7)
    assert float(both.value(policy)) == pytest.approx(float(alone.value(first, other)), abs=1e-6)
    # The seats are swapped, and what one wins the other loses.
    assert alone.advantage(first, other) == pytest.approx(-alone.advantage(other, first), abs=1e-12)
    assert alone.advantage(first, first) == 0.0


@pytest.mark.parametrize("name", list(WORDINGS))
def test_words_tell_all_information_states_apart(name: str) -> None:
    wording, tree = WORDINGS[name](), mg.load(name).tree
    labels, actions, state_of = labels_of(tree), actions_of(tree), tree.state_of
    assert len({wording.describe(label) for label in labels}) == tree.states
    said: dict[str, set[str]] = {}
    for s in range(2, tree.sequences):
        label = labels[state_of[s]]
        said.setdefault(label, set()).add(wording.say(label, actions[s]))
    assert [len(said[label]) for label in labels] == np.diff(tree.offset).tolist()


def test_plain_english() -> None:
    assert kuhn().describe("1pb") == (
        "Your card: queen. You passed, the other player bet. Pass or bet?"
    )
    label = (
        "[Observer: 1][Private: 2][Round 2][Player: 1][Pot: 8][Money: 96 96]"
        "[Public: 5][Round1: 2 1][Round2: 2]"
    )
    assert leduc().describe(label) == (
        "Your card: queen of spades. First round: they raise, you call. "
        "The card for all: king of hearts. Second round: they raise. Fold, call or raise?"
    )
    assert liars_dice(4).describe("3 1-2 2-1") == (
        "Your die: 3. The bids so far: 1x2, 2x1. Your bid?"
    )
    assert [kuhn().say("0", a) for a in (0, "1", "Bet")] == ["Pass", "Bet", "Bet"]
    assert [liars_dice(4).say("3", a) for a in (0, 7, 8, "Liar")] == ["1x1", "2x4", "Liar", "Liar"]
    for wording, name in ((kuhn(), "Kuhn"), (leduc(), "Leduc"), (liars_dice(), "liar")):
        with pytest.raises(ValueError, match=f"one of {name}"):
            wording.describe("a label of no game")


def test_compact_tokens_need_no_labels() -> None:
    tree = mg.load("kuhn_poker")
    bare = replace(tree, tree=replace(tree.tree, labels=(), actions=()))
    words = compact(bare)
    start = ml.TokenPolicy.of(network(words), words.decoding)
    played = TextTreeGame(bare, start, words.describe, words.say)
    assert np.isfinite(played.duality_gap(played.initial_policy()))
    twice = replace(tree, tree=replace(tree.tree, labels=("a",) * tree.tree.states))
    with pytest.raises(ValueError, match="same label"):
        compact(twice)


def test_bad_input_is_a_sentence() -> None:
    tree = mg.load("kuhn_poker")
    words = compact(tree)
    start = ml.TokenPolicy.of(network(words), words.decoding)

    def refused(match: str, *given: Any, **more: Any) -> None:
        with pytest.raises(ValueError, match=match):
            TextTreeGame(*given, **more)

    refused("'0' and '1' have the same description", tree, start, lambda _: (2,), words.say)
    prefix = {a: (0,) * (1 + i) for i, a in enumerate(dict.fromkeys(actions_of(tree.tree)[2:]))}
    refused("begins with that of", tree, start, words.describe, lambda _, a: prefix[a])
    refused("begins with that of", tree, start, words.describe, lambda *_: (0,))
    refused("has no token", tree, start, lambda _: (), words.say)
    refused("needs an answer", tree, start, words.describe, lambda *_: ())
    refused("`start` must be a policy", tree, (start,) * 3, words.describe, words.say)
    refused("`start` must be a policy", tree, 5, words.describe, words.say)
    refused("`tree` must be", mg.load("rps"), start, words.describe, words.say)
    refused("`describe` must be", tree, start, 3, words.say)
    refused("`describe` must be token ids", tree, start, lambda _: (-1,), words.say)
    refused("never produced", tree, start, words.describe, lambda _, a: (5 + words.say("", a)[0],))
    longer = {a: (*ids, 0) for a, ids in ((a, words.say("", a)) for a in prefix)}
    refused("at most 1", tree, start, words.describe, lambda _, a: longer[a])
    refused("context", tree, start, lambda label: words.describe(label) * 9, words.say)


def test_a_tree_too_large_to_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpo_llm.trees.answers.MOST_ANSWERS", 25)
    with pytest.raises(ValueError, match="26 actions at 12 information states"):
        game()


def test_policies_are_those_of_the_game() -> None:
    played = game()
    (start,) = played.start
    with pytest.raises(ValueError, match="has 1 policies, got 2"):
        played.played((start, start))
