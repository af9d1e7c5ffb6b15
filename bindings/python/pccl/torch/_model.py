"""The tensors of a model: which of them a trainer trains, gives and compares, where they are now, and their copies in host memory.

A module's tensors are looked up by name at each round, so that a tensor that the program has replaced is followed. Changes that a run
cannot follow raise an error that names the tensor.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

import torch

from .. import _pccl
from .._enums import DataType
from .._tensors import view
from ._arguments import Parameters, check_dense, named_tensors

Choice = Union[bool, str, Callable[[str], bool]]

# Children that torch.compile, FSDP and activation checkpointing put between a module and its own content.
_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a distributed tensor, or the tensor itself."""
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether the elements are contiguous in host memory and stored as plain values, so that no copy is needed."""
    return tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_neg() and not tensor.is_conj()


def _overlaps(tensor: torch.Tensor) -> bool:
    """Whether elements share memory, as in an expanded view."""
    return any(step == 0 and size > 1 for size, step in zip(tensor.shape, tensor.stride())) or torch._debug_has_internal_overlap(tensor) == 1


class _Found(NamedTuple):
    """A tensor of a module, where it is now."""

    name: str
    full: str
    kind: str
    holder: torch.nn.Module
    attribute: str
    tensor: torch.Tensor
    persistent: bool


def _is_transparent(module: torch.nn.Module) -> bool:
    """A wrapper like DistributedDataParallel: it holds nothing but one child of the name `module`."""
    return list(module._modules) == ["module"] and not module._parameters and not module._buffers


def _modules(root: torch.nn.Module) -> Iterator[tuple[str, str, torch.nn.Module]]:
    """All modules once, as Module.named_modules has them: (name without wrappers, full name, module)."""
    seen: set[int] = set()
    todo: list[tuple[str, str, torch.nn.Module]] = [("", "", root)]
    while todo:
        name, full, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield name, full, module
        transparent = _is_transparent(module)
        for step, child in reversed(module._modules.items()):
            if child is not None:
                hidden = step in _WRAPPERS or (transparent and step == "module")
                todo.append((name if hidden else f"{name}{step}.", f"{full}{step}.", child))


def _tensors_of(root: torch.nn.Module) -> list[_Found]:
    """The parameters and buffers of a module, in order; tied ones once."""
    found: list[_Found] = []
    seen: set[int] = set()
    for name, full, module in _modules(root):
        for attribute, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                kind = "trained" if parameter.requires_grad else "frozen"
                found.append(_Found(name + attribute, full + attribute, kind, module, attribute, parameter, True))
        for attribute, buffer in module._buffers.items():
            if buffer is not None and id(buffer) not in seen:
                seen.add(id(buffer))
                persistent = attribute not in module._non_persistent_buffers_set
                found.append(_Found(name + attribute, full + attribute, "buffer", module, attribute, buffer, persistent))
    count: dict[str, int] = {}
    for item in found:
        count[item.name] = count.get(item.name, 0) + 1
    return [item if count[item.name] == 1 else item._replace(name=item.full) for item in found]


def _unwrapped(name: str) -> str:
    """A name that a program gives, without what wrappers put into it."""
    *path, last = name.split(".")
    return ".".join([step for step in path if step not in _WRAPPERS] + [last])


def _pairs_of(parameters: Any) -> list[tuple[str, torch.Tensor]]:
    pairs = [(_unwrapped(name), tensor) for name, tensor in named_tensors(parameters)]
    if pairs and all(name.startswith("module.") for name, _ in pairs):  # of DistributedDataParallel
        pairs = [(name.removeprefix("module."), tensor) for name, tensor in pairs]
    return pairs


class Mirror:
    """A tensor and the host memory in which the library works on it: its own, or a copy where that is not possible.

    Trained tensors have their type there. Frozen parameters and buffers are bytes, so that they may be of any type.
    """

    def __init__(self, name: str, kind: str, tensor: torch.Tensor, holder: torch.nn.Module | None = None, attribute: str = "") -> None:
        self.name = name
        self.kind = kind
        self.key = name if kind == "trained" else f"{kind} {name}"
        """The name at the library."""
        self.tensor = tensor
        self.holder = holder
        self.attribute = attribute
        self._check()
        self.shape = tensor.shape
        self.dtype = tensor.dtype
        self.local = local_part(tensor)
        self.staged = not _is_plain(self.local)
        self.host = self._staging() if self.staged else self.local
        self.replace: Callable[[torch.Tensor, torch.Tensor], None] = lambda old, new: None
        self._copied: tuple[int, int] | None = None  # version and address of a frozen tensor when it was copied

    def _check(self) -> None:
        what = f"{'buffer' if self.kind == 'buffer' else 'parameter'} '{self.name}'"
        leave_out = {"buffer": " or leave it out by share_buffers", "frozen": " or set share_frozen=False"}.get(self.kind, "")
        if not isinstance(self.tensor, torch.Tensor):
            raise TypeError(f"{what} is a {type(self.tensor).__name__}: give tensors, (name, tensor) pairs or a module")
        if torch.nn.parameter.is_lazy(self.tensor):
            raise ValueError(f"{what} is not initialized: run the model once before you make a trainer")
        if self.tensor.device.type == "meta":
            raise ValueError(f"{what} is on the meta device and has no data: materialize the model before you make a trainer")
        if self.tensor.layout is not torch.strided or self.tensor.is_quantized:
            form = "quantized" if self.tensor.is_quantized else f"of layout {self.tensor.layout}"
            raise TypeError(f"{what} is {form}: only dense tensors are supported. Make it dense{leave_out}")
        if not hasattr(self.tensor, "to_local"):
            check_dense(self.tensor, what)
        if self.kind == "trained" and _overlaps(local_part(self.tensor)):
            raise ValueError(f"{what} is an expanded view, whose elements share memory: make it contiguous")

    def _staging(self) -> torch.Tensor:
        pin = self.local.is_cuda and self.kind != "frozen"
        raw = torch.empty(self.local.numel() * self.local.element_size(), dtype=torch.uint8, device="cpu", pin_memory=pin)
        return raw.view(self.local.dtype).reshape(self.local.shape)

    def library_view(self) -> _pccl.View:
        if self.kind == "trained":
            return view(self.host, self.name, writable=True)
        return _pccl.View(self.host, self.host.data_ptr(), self.host.numel() * self.host.element_size(), DataType.UINT8)

    def wire(self) -> torch.Tensor:
        """The host memory in a type that every backend of torch.distributed can send."""
        return self.host if self.kind == "trained" else self.host.reshape(-1).view(torch.uint8)

    def line(self) -> str:
        """The description of this tensor that peers compare when they join."""
        part, whole = list(self.local.shape), list(self.shape)
        shape = f"{part}" if part == whole else f"{part} of {whole}"
        return f"{self.name} {shape} {_type_name(self.dtype)}, {self.kind}"

    def content(self) -> str:
        """A hash of the elements."""
        data = self.local if _is_plain(self.local) else torch.empty_like(self.local, device="cpu").copy_(self.local).contiguous()
        elements: Any = data.reshape(-1).view(torch.uint8).numpy()
        return hashlib.blake2b(elements, digest_size=8).hexdigest()

    def follow(self, tensor: torch.Tensor) -> None:
        """Tracks `tensor` under this name from now on. Raises RuntimeError if its shape or type has changed."""
        if tensor.shape != self.shape:
            raise _cannot_follow(self.kind, self.name, f"its shape was {list(self.shape)} when the trainer was made and is {list(tensor.shape)} now")
        if tensor.dtype != self.dtype:
            types = f"{_type_name(self.dtype)} when the trainer was made and is {_type_name(tensor.dtype)} now"
            raise _cannot_follow(self.kind, self.name, f"its type was {types}")
        self.tensor = tensor

    def _at_host(self) -> bool:
        return self.local.data_ptr() == self.host.data_ptr() and _is_plain(self.local)

    def fetch(self, relocate: Callable[[str, _pccl.View], None]) -> None:
        """Updates `host` with the tensor's values. An optimizer, FSDP or the program may have moved the tensor."""
        self.local = local_part(self.tensor)
        if self._at_host():
            return
        if _is_plain(self.local):
            self.host, self.staged = self.local, False
            return relocate(self.key, self.library_view())
        if not self.staged:
            self.host, self.staged, self._copied = self._staging(), True, None
            relocate(self.key, self.library_view())
        if self.kind == "frozen":  # constant: once is enough
            now = (0 if self.tensor.is_inference() else self.tensor._version, self.local.data_ptr())
            if now == self._copied:
                return
            self._copied = now
        self.host.copy_(self.local)

    def put(self) -> None:
        """Copies `host` to the tensor, unless both are the same memory."""
        if self._at_host():
            return
        with torch.no_grad():
            if not _overlaps(self.local):
                self.local.copy_(self.host)
            else:
                self._put_overlapping()
        if self.kind == "frozen":
            self._copied = (0 if self.tensor.is_inference() else self.tensor._version, self.local.data_ptr())

    def _put_overlapping(self) -> None:
        """Writes new values into an expanded view. A view that cannot hold them is replaced in its module."""
        if torch.equal(self.local.cpu(), self.host):
            return
        once = tuple(slice(0, 1) if step == 0 else slice(None) for step in self.local.stride())
        if not _overlaps(self.local[once]) and torch.equal(self.host[once].expand(self.local.shape), self.host):
            self.local[once].copy_(self.host[once])
            return
        whole = self.host.to(self.local.device, copy=True)
        if self.kind == "buffer":
            self.replace(self.tensor, whole)
            self.tensor = whole
        else:
            self.tensor.data = whole
        self.local = local_part(self.tensor)


def _cannot_follow(kind: str, name: str, why: str) -> RuntimeError:
    what = f"buffer '{name}'" if kind == "buffer" else f"parameter '{name}'"
    leave_out = {"buffer": ", or leave it out by share_buffers (\"persistent\", or a function of the name)", "frozen": ", or set share_frozen=False"}
    return RuntimeError(
        f"this trainer cannot follow {what}: {why}. Make a new trainer (state_dict keeps the outer state){leave_out.get(kind, '')}"
    )


@dataclass
class _Wanted:
    """The tensors that newcomers receive."""

    buffers: Choice
    frozen: Choice

    def has(self, item: _Found) -> bool:
        if item.kind == "frozen":
            return self.frozen is not False
        if item.kind != "buffer":
            return True
        if callable(self.buffers):
            return bool(self.buffers(item.name))
        return item.persistent if self.buffers == "persistent" else bool(self.buffers)

    def line(self) -> str:
        buffers = "chosen by name" if callable(self.buffers) else self.buffers
        return f"options: share_buffers={buffers}, share_frozen={self.frozen}"


class Model:
    """The tensors that a trainer was given."""

    def __init__(self, parameters: Parameters, share_buffers: Choice, share_frozen: Choice) -> None:
        if not isinstance(share_buffers, bool) and share_buffers != "persistent" and not callable(share_buffers):
            raise TypeError(f"share_buffers is {share_buffers!r}: give True, False, \"persistent\" or a function of a buffer's name")
        if not isinstance(share_frozen, bool) and share_frozen != "compare":
            raise TypeError(f"share_frozen is {share_frozen!r}: give True, False or \"compare\"")
        self._root = parameters if isinstance(parameters, torch.nn.Module) else None
        self._wanted = _Wanted(share_buffers, share_frozen)
        if isinstance(parameters, torch.nn.Module):
            found = [item for item in _tensors_of(parameters) if self._wanted.has(item)]
            mirrors = [Mirror(item.name, item.kind, item.tensor, item.holder, item.attribute) for item in found]
        else:
            mirrors = [Mirror(name, "trained", tensor) for name, tensor in _pairs_of(parameters)]
        if not any(mirror.kind == "trained" for mirror in mirrors):
            raise ValueError("there is nothing to train: no parameter that requires a gradient")
        self._all = {mirror.name: mirror for mirror in mirrors}
        self._lines = [mirror.line() for mirror in mirrors]
        if share_frozen == "compare":
            for i, mirror in enumerate(mirrors):
                if mirror.kind == "frozen":
                    self._lines[i] += f", content {mirror.content()}"
        if self._root is not None:
            self._lines.append(self._wanted.line())
        full = [mirror for mirror in mirrors if mirror.local.numel() != 0]
        self.trained = [mirror for mirror in full if mirror.kind == "trained"]
        if not self.trained:  # this process has no part of any tensor, and still is one of its island
            self.trained = [Mirror("nothing", "trained", torch.zeros(1, device="cpu"))]
        self.given = [m for m in full if m.kind == "buffer" or (m.kind == "frozen" and share_frozen is True)]
        for mirror in self.given:
            mirror.replace = self._replace_buffer
        self._now_frozen: set[str] = set()
        self._glances: list[tuple[dict[str, Any], str, torch.Tensor, bool, torch.dtype]] = []
        self._prepare_glances()

    def _replace_buffer(self, old: torch.Tensor, new: torch.Tensor) -> None:
        """Under all names that it has."""
        assert self._root is not None
        for _, _, module in _modules(self._root):
            for name, buffer in module._buffers.items():
                if buffer is old:
                    module._buffers[name] = new

    def definition(self) -> list[str]:
        """The lines that peers compare."""
        return self._lines

    def glance(self) -> None:
        """A look that costs little: whether what was trained or frozen still is, where the tensors were found last. Else as `refresh`."""
        for held, attribute, parameter, trained, dtype in self._glances:
            if held.get(attribute) is not parameter or parameter.requires_grad is not trained or parameter.dtype is not dtype:
                self.refresh()
                break

    def _prepare_glances(self) -> None:
        self._glances = [
            (mirror.holder._parameters, mirror.attribute, mirror.tensor, mirror.kind == "trained", mirror.dtype)
            for mirror in self._all.values() if mirror.holder is not None and mirror.kind != "buffer" and mirror.name not in self._now_frozen
        ]

    def refresh(self) -> None:
        """Looks all tensors up by name. Raises RuntimeError for changes that a run cannot follow."""
        if self._root is None:
            for mirror in self._all.values():
                mirror.follow(mirror.tensor)
            return
        found = {item.name: item for item in _tensors_of(self._root)}
        for name, mirror in self._all.items():
            item = found.pop(name, None)
            if item is None:
                raise _cannot_follow(mirror.kind, name, "the model does not have it any more, or has tied it to another one")
            if mirror.kind == "frozen" and item.kind == "trained":
                raise _cannot_follow(mirror.kind, name, "it was frozen when the trainer was made and requires a gradient now")
            if (mirror.kind == "buffer") != (item.kind == "buffer"):
                raise _cannot_follow(mirror.kind, name, "it was a buffer, and is a parameter now" if mirror.kind == "buffer" else "it is a buffer now")
            if mirror.kind == "trained" and item.kind == "frozen":
                self._warn_frozen(name)
            mirror.holder, mirror.attribute = item.holder, item.attribute
            mirror.follow(item.tensor)
        for item in found.values():
            if item.kind == "trained" or self._wanted.has(item):
                raise _cannot_follow(item.kind, item.name, f"the model did not have it as {_as_what(item)} when the trainer was made")
        self._prepare_glances()

    def _warn_frozen(self, name: str) -> None:
        if name not in self._now_frozen:
            self._now_frozen.add(name)
            warnings.warn(
                f"parameter '{name}' does not require a gradient any more. It is still averaged with the other peers', and outer momentum still "
                "moves it. Make a new trainer to leave it out",
                RuntimeWarning, stacklevel=6,
            )

    def fetch(self, relocate: Callable[[str, _pccl.View], None]) -> None:
        """Updates the host copies of all tensors. Call `refresh` first."""
        for mirror in self.trained + self.given:
            mirror.fetch(relocate)

    def put(self, given_too: bool) -> None:
        """Copies the host values to the tensors. `given_too`: include the tensors that newcomers receive."""
        for mirror in self.trained + (self.given if given_too else []):
            mirror.put()


def _as_what(item: _Found) -> str:
    return {"trained": "a trained parameter", "frozen": "a frozen parameter", "buffer": "a buffer"}[item.kind]
