"""The workbench of a network: whose weights the module has, what is copied, and what is not."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mpo_llm as ml
from architectures import LONG, RESPONSES, adapted, gpt2, policy, rollouts, transformed
from languages import FIXED
from mpo_llm.networks import pieces
from mpo_llm.networks.workbench import Workbench


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each parameter was given other weights."""
    counts: Counter[str] = Counter()
    plain = Workbench._put

    def counted(self: Workbench, name: str, tensor: Tensor) -> None:
        counts[name] += 1
        plain(self, name, tensor)

    monkeypatch.setattr(Workbench, "_put", counted)
    return counts


@pytest.mark.parametrize("build", [gpt2, lambda: gpt2().bfloat16(), lambda: adapted(gpt2())])
def test_weights_are_put_in_when_others_are_there(
    build: Callable[[], Any], put: Counter[str]
) -> None:
    """Once for each reading, whatever the parts of its rows, and never for who is there already."""
    p = replace(policy(build()), proximal=ml.Proximal(minimise=ml.Adam(3), micro_batch=1))

    def times() -> int:
        (found,) = set(put.values()) or {0}
        put.clear()
        return found

    first = rollouts(p)
    assert times() == 0, "the module is what the policy was made of"
    other = transformed(p)
    other.log_probs(RESPONSES)
    assert times() == 1
    ml.sample(other, LONG, 2, np.random.default_rng(0))
    assert times() == 0
    p.kl(other, RESPONSES)
    assert times() == 2
    q = replace(first, hidden=None)
    stepped = p.mirror_step(q, other, eta=1.0, alpha=0.1)
    assert times() <= 3, "the old policy, the magnet, and the old policy to begin with"
    stepped.log_probs(RESPONSES)
    assert times() == 0, "the module has the weights of the last step"
    mixed = p.mix(other, 0.5)
    mixed.log_probs(RESPONSES)
    assert times() == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_are_freed(dtype: torch.dtype) -> None:
    """The hooks that take gradients know nobody who knows the parameters."""
    p = policy(gpt2().to(dtype))
    p = p.mirror_step(rollouts(p), p, eta=1.0, alpha=0.1)
    known = [weakref.ref(x) for x in (p.network, p.network.given, *p.network.trainable.values())]
    del p
    gc.collect()
    assert [ref() for ref in known] == [None] * len(known)


class Idle(nn.Module):
    """A transformer with a weight that no loss depends on."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = ml.SmallTransformer(6, 5, width=16).to(dtype)
        self.idle = nn.Parameter(torch.ones(3, dtype=dtype))

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.inner(ids)
        return logits


def test_a_copy_is_made_of_what_differs() -> None:
    """Drafts are the old tensors until they change; the old policy and the module stay what they
    were, also where policies share tensors."""
    p = ml.TokenPolicy.of(ml.PlainNetwork(Idle(torch.float64)), FIXED)
    before = {n: w.clone() for n, w in p.weights.items()}
    bench = p.network.workbench
    bench.begin(p.weights)
    assert all(bench.drafts[n] is w for n, w in p.weights.items())
    bench.end()
    q = rollouts(p, ml.sample(p, [(4,)], 4, np.random.default_rng(0)))
    stepped = p.mirror_step(q, p, eta=1.0, alpha=0.1)
    again = stepped.mirror_step(q, p, eta=1.0, alpha=0.1)
    for name, w in p.weights.items():
        assert torch.equal(w, before[name])
        same = [x.weights[name].data_ptr() == w.data_ptr() for x in (stepped, again)]
        assert same == [name == "idle"] * 2
    assert "idle" not in again.moments.second


class Numbers(nn.Module):
    """A thousand numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(1000))


def like(value: float, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {"numbers": torch.full((1000,), value, dtype=dtype)}


def test_other_weights_are_not_written_to_drafts() -> None:
    """Not even weights that are copied into the module while a draft is its data."""
    bench = Workbench(Numbers())
    bench.begin(bench.weights())
    piece = pieces.Piece("numbers", slice(0, 1000), last=True)
    with bench.changed([piece], list(like(1.0).values())) as (draft,):
        draft.fill_(1.0)
    bench.hold(like(2.0, torch.float64))
    assert (bench.parameters["numbers"] == 2.0).all()
    bench.hold_drafts()
    assert (bench.parameters["numbers"] == 1.0).all()
    assert torch.equal(bench.weights()["numbers"], like(1.0)["numbers"])


def test_no_workbench_writes_to_what_another_has_put_in() -> None:
    """Also where it lies in memory that the first workbench once had."""
    module = Numbers()
    one, two = Workbench(module), Workbench(module)
    one.hold(like(1.0, torch.float64))
    place = module.numbers.data_ptr()
    two.hold(like(2.0))
    policies = [like(float(i)) for i in range(50)]
    known = [p for p in policies if p["numbers"].data_ptr() == place] or policies[:1]
    before = known[0]["numbers"].clone()
    two.hold(known[0])
    one.hold(like(7.0, torch.float64))
    assert torch.equal(known[0]["numbers"], before)


def test_tensors_that_are_done_with_are_freed() -> None:
    """Groups of pieces hold no tensor that the caller has dropped, but for the last one."""
    tensors = {name: torch.ones(pieces.IN_CACHE) for name in "abc"}
    others = {name: t.clone() for name, t in tensors.items()}
    known = [weakref.ref(t) for t in tensors.values()]
    alive = []
    for (piece,) in pieces.groups(tensors, others):
        alive.append(sum(ref() is not None for ref in known))
        del tensors[piece.name]
    assert alive == [3, 2, 1]


def test_half_precision_has_masters_of_all_weights() -> None:
    p = ml.TokenPolicy.of(ml.PlainNetwork(Idle(torch.bfloat16)), FIXED)
    q = rollouts(p, ml.sample(p, [(4,)], 4, np.random.default_rng(0)))
    stepped = p.mirror_step(q, p, eta=1.0, alpha=0.1)
    assert {w.dtype for w in stepped.weights.values()} == {torch.float32}
    for name, parameter in p.network.trainable.items():
        assert torch.equal(parameter, stepped.weights[name].bfloat16())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_one_module_do_not_mix_up_their_weights(dtype: torch.dtype) -> None:
    module = Idle(dtype)
    one, two = (ml.TokenPolicy.of(ml.PlainNetwork(module), FIXED) for _ in range(2))
    drawn = ml.sample(one, [(4,)], 4, np.random.default_rng(0))
    q = rollouts(one, drawn)
    expected = one.log_probs(drawn)
    stepped = two.mirror_step(q, two, eta=1.0, alpha=0.1)
    moved = stepped.log_probs(drawn)
    assert not np.array_equal(moved, expected)
    np.testing.assert_array_equal(one.log_probs(drawn), expected)
    np.testing.assert_array_equal(stepped.log_probs(drawn), moved)
    # The gradients of a step come to the network that takes it.
    again = one.mirror_step(q, one, eta=1.0, alpha=0.1)
    for name, w in again.weights.items():
        assert torch.equal(w, stepped.weights[name])


def test_a_module_that_is_changed_from_outside_is_refused() -> None:
    """It has the tensors of the policy that was run last, which must never change."""
    module = Idle(torch.float64)
    p = ml.TokenPolicy.of(ml.PlainNetwork(module), FIXED)
    other = transformed(p)
    p.log_probs(ml.Responses.of_ids([(4,)], [0], [(1, 2)]))
    with torch.no_grad():
        module.inner.head.weight.mul_(2.0)
    with pytest.raises(ValueError, match=r"'inner.head.weight' was changed from outside"):
        other.log_probs(ml.Responses.of_ids([(4,)], [0], [(1, 2)]))


def test_a_module_is_lent_and_given_back() -> None:
    """Also within another loan."""
    p = policy(gpt2().bfloat16())
    other = transformed(p)

    def has(weights: Any) -> bool:
        return all(torch.equal(x, weights[n].bfloat16()) for n, x in p.network.trainable.items())

    with p.network.holding(other.weights):
        assert has(other.weights)
        with p.network.holding(p.weights):
            assert has(p.weights)
        assert has(other.weights)
    assert has(p.weights)


@pytest.mark.parametrize("build", [gpt2, lambda: gpt2().bfloat16()])
def test_pieces_change_nothing(build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an update goes through many small groups of numbers or through one."""
    found = []
    for room in (7, 10**6):
        monkeypatch.setattr(pieces, "IN_CACHE", room)
        p = replace(policy(build()), proximal=ml.Proximal(minimise=ml.Adam(3, clip=0.1)))
        q = rollouts(p)
        found.append(p.mirror_step(q, p, eta=1.0, alpha=0.1).mirror_step(q, p, eta=1.0, alpha=0.1))
    for name, w in found[0].weights.items():
        for one, two in ((w, found[1].weights[name]), *[(x.moments.second[name] for x in found)]):
            torch.testing.assert_close(one, two, atol=1e-7, rtol=1e-6)


def test_an_update_takes_every_number_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the tensors; what is not contiguous is in one piece."""
    monkeypatch.setattr(pieces, "IN_CACHE", 5)
    tensors = {
        "a": torch.zeros(2, 4),
        "b": torch.zeros(3),
        "c": torch.zeros(3, 2).T,
        "d": torch.zeros(0),
        "e": torch.zeros(7),
    }
    others = {n: t.T.contiguous().T if n == "a" else t for n, t in tensors.items()}
    for given, whole in ((tensors, "c"), (others, "ac")):
        sizes = []
        for group in pieces.groups(tensors, given):
            for piece in group:
                piece.of(tensors[piece.name]).add_(1.0)
                assert (piece.numbers is None) == (piece.name in whole)
            sizes.append(sum(piece.of(tensors[piece.name]).numel() for piece in group))
            assert sizes[-1] <= 5 or group[0].numbers is None
        seen = [p.name for g in pieces.groups(tensors, given) for p in g if p.last]
        assert sorted(seen) == list("abcde")
    assert all((t == 2.0).all() for t in tensors.values())
