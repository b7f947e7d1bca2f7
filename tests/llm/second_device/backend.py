"""A second device in CPU memory: import this module, then `torch.device("far")` exists.

Its tensors are ordinary tensors of PyTorch's PrivateUse1 backend, with a storage: a CPU tensor is
exported by DLPack, the capsule's device is rewritten, and the capsule is imported again. So views,
`Parameter`, `.data = `, saved tensors and autograd, with a thread of its own as on CUDA, are
PyTorch's own. One boxed fallback runs the CPU's kernel of every operation on the same memory.

Like CUDA, the device refuses an operation on tensors of both devices, and NumPy. Only a CPU number
(a tensor of no dimension) may be read beside its tensors. It is stricter than CUDA in one thing: it
refuses indices that are on the CPU, which CUDA would fetch, and wait for, in silence.

`METER` counts kernels, waits, copies and bytes (see `meter.py`). A copy to or from the device is a
wait, unless it is `non_blocking` and its CPU side is pinned. Such a copy ends at the next wait. So
pinned memory that is read too early holds NaN, and one that is written to too early is an error.

What it cannot catch:

- Streams. There is one, and each of its kernels has ended when its call returns.
- Kernels that CUDA lacks, or that give other numbers there: half precision on tensor cores, sums in
  another order, atomic additions.
- Fused attention: `scaled_dot_product_attention` takes its plain form here. Its memory, its speed
  and its restrictions on masks and dtypes are CUDA's alone.
- Several devices, and NCCL.
- Memory that an allocator rounds up or keeps, and what kernels use inside.

A process has one backend of this kind and keeps it, so tests run in a process of their own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from second_device import pinned
from second_device.meter import TO_DEVICE, TO_HOST, Meter

NAME = "far"
METER = Meter()
"""The counts of this device."""

_COPIES = pinned.Copies()

_CPU, _FAR = 1, 12
"""kDLCPU and kDLExtDev: numbers of devices in DLPack."""

_WAITS = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
}
"""Operations whose result, or its size, CUDA brings to the host."""

_FREE = {"aten::empty", "aten::empty_strided", "aten::resize_", "aten::set_"}
"""Operations without a kernel."""

_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_JOINING = {"aten::cat", "aten::stack"}
"""Operations that refuse even a number of the other device."""

_BELOW = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
"""The CPU's own implementation; those of views do not touch memory."""

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


class _Module(_DummyBackendModule):
    """What `torch.far` is."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass

    def synchronize(self, device: Any = None) -> None:
        _wait("synchronize")


def is_far(value: Any) -> bool:
    """Whether a value is a tensor of the second device."""
    # The first question is answered fastest.
    return isinstance(value, Tensor) and not value.is_cpu and value.device.type == NAME


def _moved(tensor: Tensor, kind: int) -> Tensor:
    """A tensor of the other device with the same memory."""
    capsule = torch._C._to_dlpack(tensor)
    address = _pointer(capsule, b"dltensor")
    assert address is not None
    # `DLManagedTensor` begins with the address of the data; the device's number follows it.
    ctypes.c_int32.from_address(address + 8).value = kind
    found: Tensor = torch._C._from_dlpack(capsule)
    return found


def _new(tensor: Tensor, operation: str) -> Tensor:
    """The tensor of this device with the memory of a CPU tensor that nobody else has."""
    METER.allocated(tensor, operation)
    return _moved(tensor, _FAR)


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """The value with `function` applied to it, or to its items if it is a list."""
    if isinstance(value, (list, tuple)):
        items = [_each(function, item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return function(value)


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among the values, and in lists among them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


@dataclass(frozen=True, slots=True)
class _Signature:
    """What the fallback must know of an operation."""

    name: str
    written: tuple[int, ...]
    """Places of the arguments that it writes to, beside `outs`."""
    outs: tuple[str, ...]
    """Names of the arguments that it writes its results to."""
    tensors: tuple[int, ...]
    """Places of the arguments that must be tensors, for which a number will not do."""

    @classmethod
    @cache
    def of(cls, op: Any) -> _Signature:
        """The signature of an operation of PyTorch."""
        arguments = op._schema.arguments
        name: str = op._schema.name
        written = (
            i
            for i, a in enumerate(arguments)
            if not a.is_out and a.alias_info is not None and a.alias_info.is_write
        )
        numbers = torch._C._should_allow_numbers_as_tensors(name.removeprefix("aten::"))
        tensors = (i for i, a in enumerate(arguments) if isinstance(a.type, torch.TensorType))
        return cls(
            name,
            tuple(written),
            tuple(a.name for a in arguments if a.is_out),
            () if numbers else tuple(tensors),
        )


def _fallback(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operation: the CPU's kernel on the same memory."""
    signature = _Signature.of(op)
    name, tensors = signature.name, _tensors([*args, *kwargs.values()])
    far = [t for t in tensors if is_far(t)]
    written = [args[i] for i in signature.written if i < len(args)]
    outs = [kwargs[out] for out in signature.outs if out in kwargs]
    if far and len(far) < len(tensors):
        _require_one_device(op, name, tensors, _tensors([*written, *outs]))
    if name not in _FREE:
        METER.count(METER.kernels, name)
    if _waits(name, args, kwargs):
        _wait(name)
    # The CPU makes outputs that are handed in, because they may be empty, and they are filled then.
    # One that is an input as well has its memory already.
    made = {id(out) for out in outs if sum(t is out for t in tensors) == 1}
    lent: dict[int, tuple[Tensor, Tensor]] = {}

    def near(value: Any) -> Any:
        if is_far(value):
            alias = torch.empty(0, dtype=value.dtype) if id(value) in made else _moved(value, _CPU)
            lent[id(alias)] = alias, value
            return alias
        is_device = isinstance(value, torch.device) and value.type == NAME
        return torch.device("cpu") if is_device else value

    # Tensors that stood for numbers have become numbers on their way here.
    given = [
        _as_tensor(value, far) if i in signature.tensors else value for i, value in enumerate(args)
    ]
    found = op(*_each(near, given), **{k: _each(near, v) for k, v in kwargs.items()})

    def away(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in lent:
            return _written(*lent[id(value)], name)
        if value.dtype == torch.float64 and value.numel() > 1:
            METER.count(METER.doubles, name, value.numel())
        view = _view(value, far)
        return _new(value, name) if view is None else view

    return _each(away, found)


def _require_one_device(
    op: Any, name: str, tensors: Sequence[Tensor], written: Sequence[Tensor]
) -> None:
    """`RuntimeError` for tensors of both devices, except for CPU numbers that are only read."""
    if name == "aten::set_":
        return
    for t in tensors:
        number = t.dim() == 0 and not any(t is w for w in written)
        if not is_far(t) and (not number or name in _JOINING | _INDEXING):
            shapes = ", ".join(f"{tuple(x.shape)} on {x.device}" for x in tensors)
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {op} got {shapes}."
            )


def _waits(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether CUDA makes the host wait for the result of an operation, or for its size."""
    if name == "aten::repeat_interleave":
        return kwargs.get("output_size") is None
    # Reading by a mask calls `nonzero` by itself.
    if name in _INDEXING and name != "aten::index":
        return any(t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1]))
    return name in _WAITS


def _as_tensor(value: Any, far: Sequence[Tensor]) -> Any:
    """A number as a tensor of no dimension that leaves the dtype of `far` as it is."""
    if type(value) not in (int, float, bool):
        return value
    like = far[0].dtype if far else None
    if like is not None and isinstance(value, float) and not like.is_floating_point:
        like = None
    return torch.tensor(value, dtype=like)


def _view(value: Tensor, bases: Sequence[Tensor]) -> Tensor | None:
    """The result as a view of one of the arguments, if it has that one's memory."""
    at = value.data_ptr() if value.numel() else 0
    for base in bases:
        storage = base.untyped_storage()
        begin = storage.data_ptr()
        if begin <= at < begin + storage.nbytes():
            offset = (at - begin) // value.element_size()
            view: Tensor = torch.ops.aten.as_strided.default.redispatch(
                _BELOW, base, value.shape, value.stride(), offset
            )
            return view
    return None


def _written(alias: Tensor, target: Tensor, operation: str) -> Tensor:
    """The argument that an operation has written to, after the CPU has written to its alias."""
    if alias.data_ptr() == target.data_ptr() and alias.shape == target.shape:
        return target
    if alias.shape == target.shape:
        _moved(target, _CPU).copy_(alias)
        return target
    fresh = _new(alias.contiguous(), operation)
    torch.ops.aten.set_.source_Storage_storage_offset.redispatch(
        _BELOW, target, fresh.untyped_storage(), 0, alias.shape, fresh.stride()
    )
    return target


def _wait(reason: str) -> None:
    METER.count(METER.waits, reason)
    _COPIES.end()


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Copies within the device and between devices, which PyTorch's `copy_` asks for."""
    one, two = (_moved(t, _CPU) if is_far(t) else t.detach() for t in (source, target))
    if is_far(source) and is_far(target):
        METER.count(METER.kernels, "aten::copy_")
        two.copy_(one)
        return target
    to_host = is_far(source)
    way, host = (TO_HOST, two) if to_host else (TO_DEVICE, one)
    METER.count(METER.copies, way, source.numel() * source.element_size())
    if not source.numel():
        return target
    if non_blocking and host.is_pinned():
        _COPIES.begin(one, two, to_host=to_host)
    else:
        _wait(way)
        two.copy_(one)
    return target


def _to_copy(source: Tensor, **given: Any) -> Tensor:
    """`.to` and `.cpu`: PyTorch pins the target of a `non_blocking` copy to the host."""
    device = given.get("device")
    to_host = device is not None and device.type == "cpu" and given.get("non_blocking", False)
    if not to_host:
        below = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
        found: Tensor = torch.ops.aten._to_copy.default.redispatch(below, source, **given)
        return found
    dtype = given.get("dtype") or source.dtype
    target = torch.empty_like(source, dtype=dtype, device="cpu", pin_memory=True)
    return target.copy_(source, non_blocking=True)


def _cloned(storage: Any, clone: Any = torch.storage._StorageBase.clone) -> Any:
    """A copy of a storage, for `deepcopy`, which asks the device for memory of its own."""
    if storage.device.type != NAME:
        return clone(storage)
    whole = torch.empty(0, dtype=torch.uint8, device=NAME).set_(storage)
    return whole.clone().untyped_storage()


_setup_privateuseone_for_python_backend(NAME, _Module())
# By default `module.to` makes new parameters for a device of this kind and so unties those that are
# tied. On CUDA it keeps them.
torch.__future__.set_swap_module_params_on_conversion(True)
_torch: Any = torch  # not all of it is typed
_torch.storage._StorageBase.clone = _cloned
_torch.Tensor.is_pinned = pinned.is_pinned
_torch.Tensor.pin_memory = pinned.pin_memory
_torch.empty_like = pinned.empty_like

_rest = _torch.library.Library("_", "IMPL")
_rest.fallback(_fallback, "PrivateUse1")
_aten = _torch.library.Library("aten", "IMPL")
_aten.impl("_copy_from", _copy_from, "PrivateUse1")
_aten.impl("_to_copy", _to_copy, "PrivateUse1")
for _op in (
    torch.ops.aten.as_strided.default,
    torch.ops.aten.view.default,
    torch.ops.aten._reshape_alias.default,
    torch.ops.aten.set_.source_Tensor,
    torch.ops.aten.set_.source_Storage,
    torch.ops.aten.set_.source_Storage_storage_offset,
):
    _aten.impl(_op, partial(_op.redispatch, _BELOW), "PrivateUse1")
