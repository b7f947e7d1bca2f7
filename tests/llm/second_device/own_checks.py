"""What the second device promises, checked on it: refusals, counts, and bytes."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from second_device.backend import METER, NAME
from second_device.meter import TO_DEVICE, TO_HOST, measured


def far(*shape: int) -> Tensor:
    return torch.ones(shape, device=NAME)


MIXED: dict[str, Callable[[], object]] = {
    "a sum": lambda: far(3) + torch.ones(3),
    "a number that is written": lambda: torch.zeros(()).add_(far(3).sum()),
    "an index of the CPU": lambda: far(3)[torch.tensor([0])],
    "an index of the device": lambda: torch.ones(3)[torch.tensor([0]).to(NAME)],
    "a mask": lambda: far(3).masked_fill(torch.ones(3).bool(), 0.0),
    "rows that are filled": lambda: far(3).index_fill(-1, torch.tensor([1]), 0.0),
    "joined vectors": lambda: torch.cat([far(3), torch.ones(3)]),
    "joined numbers": lambda: torch.stack([far(3).sum(), torch.ones(())]),
    "a module elsewhere": lambda: nn.Linear(3, 3)(far(2, 3)),
    "an embedding": lambda: nn.Embedding(3, 3).to(NAME)(torch.tensor([1])),
    "numpy()": lambda: far(3).numpy(),
    "np.asarray": lambda: np.asarray(far(3)),
}


def refuses_mixed_devices() -> None:
    for name, mix in MIXED.items():
        try:
            mix()
        except (RuntimeError, TypeError):
            continue
        raise AssertionError(f"{name} was not refused")


def takes_numbers_of_the_cpu() -> None:
    x = far(2, 3)
    assert (x * torch.tensor(2.0) + 1).sum().item() == 18.0
    assert (x.double() * torch.tensor(0.1)).dtype == torch.float64
    assert (x.long() * 2.5).sum().item() == 15.0
    assert torch.where(x > 0, x, 0.1).double().mean().item() == 1.0


def counts_waits_and_copies() -> None:
    x, ids, row = far(4), torch.tensor([3, 1, 3], device=NAME), torch.ones(2)
    pinned = torch.ones(2).pin_memory()
    free: list[Callable[[], object]] = [
        lambda: x.sum(),
        lambda: torch.where(x > 0, x, 0.0),
        lambda: pinned[:1].to(NAME, non_blocking=True),
        lambda: x.to("cpu", non_blocking=True),  # PyTorch pins what it copies to
        lambda: x.masked_fill_(x > 2, 0.0),
    ]
    waiting: list[Callable[[], object]] = [
        lambda: x.sum().item(),
        lambda: bool(x.any()),
        lambda: x.cpu(),
        lambda: row.to(NAME),
        lambda: row.to(NAME, non_blocking=True),  # not pinned
        lambda: torch.tensor([1.0, 2.0], device=NAME),
        lambda: ids.nonzero(),
        lambda: x[x > 0],
        lambda: torch.unique_consecutive(ids),
        lambda: x.repeat_interleave(ids.repeat(2)[:4]),
        lambda: torch.equal(x, x),
    ]
    for expected, calls in ((0, free), (1, waiting)):
        for i, call in enumerate(calls):
            with measured(METER) as seen:
                call()
            assert seen.waits.total() == expected, (i, seen.waits)
    with measured(METER) as seen:
        x.cpu()
        row.to(NAME)
    amounts = {what: amount for (what, _), amount in seen.copies.items()}
    assert amounts == {TO_HOST: 16, TO_DEVICE: 8}
    assert {place.partition(":")[0] for _, place in seen.copies} == {"own_checks.py"}
    with measured(METER) as seen:
        x + x
    assert dict(seen.kernels.items()).popitem()[1] == 1


def ends_copies_at_a_wait() -> None:
    x, row = far(2), torch.ones(2).pin_memory()
    y = row.to(NAME, non_blocking=True) + 1.0
    home = torch.empty_like(row, pin_memory=True).copy_(y, non_blocking=True)
    assert home.isnan().all()  # read too early
    z = home.to(NAME, non_blocking=True)  # but the device works in order
    y.zero_()
    x.cpu()
    assert home.tolist() == z.tolist() == [2.0, 2.0]
    row.to(NAME, non_blocking=True)
    row += 1.0
    try:
        x.cpu()
    except RuntimeError:
        return
    raise AssertionError("It was written to too early.")


def counts_bytes() -> None:
    gc.collect()
    before = METER.held
    with measured(METER) as seen:
        x = torch.zeros(1000, device=NAME)
        view = x[:10].view(2, 5)
        assert seen.held - before == 4000
        doubled = x.double()
        assert seen.held - before == 12000
        del x
        assert seen.held - before == 12000  # the view holds the memory
        del view, doubled
    assert seen.held == before
    assert seen.peak - before == 12000
    assert seen.doubles.total() == 1000


def autograd_is_torchs() -> None:
    torch.manual_seed(0)
    here = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    there = copy.deepcopy(here).to(NAME)
    also = copy.deepcopy(there)
    x = torch.randn(5, 3)
    for module, rows in ((here, x), (there, x.to(NAME))):
        module(rows).square().sum().backward()
    for p, q, r in zip(here.parameters(), there.parameters(), also.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        torch.testing.assert_close(q.grad.cpu(), p.grad)
        assert r.grad is None
        assert r.data_ptr() != q.data_ptr()
    tied = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3))
    tied[1].weight = tied[0].weight
    assert tied.to(NAME)[1].weight is tied[0].weight


CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        refuses_mixed_devices,
        takes_numbers_of_the_cpu,
        counts_waits_and_copies,
        ends_copies_at_a_wait,
        counts_bytes,
        autograd_is_torchs,
    )
}
