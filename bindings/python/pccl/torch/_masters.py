"""Inner optimizers that keep master copies of the parameters, mostly in float32, and write the parameters from these after each step.

A trainer changes parameters, and such an optimizer would write over that at its next step. A trainer therefore updates known masters after
each change. If it does not know them, it detects that its averages are overwritten.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

import torch

from ._model import Mirror, local_part

Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]

# Methods by which an optimizer reads its masters from the parameters: Megatron's mixed-precision optimizers, DeepSpeed's.
_RELOADS = ("reload_model_params", "refresh_fp32_params")
# Lists, or lists of lists, of parameters and of their masters, in the same order: Megatron, Apex, DeepSpeed.
_GROUPS = (
    ("float16_groups", "fp32_from_float16_groups"),
    ("fp16_groups", "fp32_from_fp16_groups"),
    ("fp16_groups_flat", "fp32_groups_flat"),
    ("bf16_groups_flat", "fp32_groups_flat_partition"),
)
_STATES = ("master_param", "master_params", "master_weight", "fp32_param")  # of Transformer Engine's FusedAdam and its like
_MAX_LAYERS = 16
_SEARCH_LIMIT = 10.0  # seconds: a thread that takes its turn at the beginning of a search can keep the others waiting this long
_WARN_AFTER = 2  # outer steps in a row


def copy_to_masters(pairs: Pairs) -> None:
    """Gives masters the values of their parameters: `pairs` are (parameter, master), each of the same number of elements.

    An element of a master that rounds to the parameter's value already is kept, with the precision that it has.
    """
    with torch.no_grad():
        for parameter, master in pairs:
            low, high = local_part(parameter), local_part(master)
            if low.numel() != high.numel():
                raise ValueError(f"a master of {high.numel()} elements cannot take the values of a parameter of {low.numel()}: give pairs that fit")
            low = low.reshape(high.shape).to(high.device)
            high.copy_(torch.where(high.to(low.dtype) == low, high, low.to(high.dtype)))


def masters_of(optimizer: Any) -> Optional[Callable[[], object]]:
    """A function that gives an optimizer's masters the values of the parameters; None if it has no masters that are known here.

    Known are: Megatron's (`reload_model_params`, `fp32_from_float16_groups`), Apex' (`_amp_stash`, `fp32_from_fp16_groups`,
    `master_params`), DeepSpeed's (`refresh_fp32_params`, `fp32_groups_flat_partition`), masters in an optimizer's state
    (`state[p]["master_param"]`), and wrappers (`.optimizer`) of any of these.
    """
    for layer in layers_of(optimizer):
        for name in _RELOADS:
            if callable(getattr(layer, name, None)):
                return getattr(layer, name)  # type: ignore[no-any-return]
        for owner in (layer, getattr(layer, "_amp_stash", None)):
            if owner is not None and _pairs_of(owner) is not None:
                return functools.partial(_reload, owner)
        state = getattr(layer, "state", None)
        if isinstance(state, Mapping) and any(_in_state(state)):
            return functools.partial(_reload_state, state)
    return None


def _reload(owner: Any) -> None:
    copy_to_masters(_pairs_of(owner) or [])


def _reload_state(state: Mapping[Any, Any]) -> None:
    copy_to_masters(_in_state(state))


def layers_of(optimizer: Any) -> Iterator[Any]:
    """An optimizer and what it wraps, from the outside in."""
    seen: list[Any] = []
    while optimizer is not None and len(seen) < _MAX_LAYERS and not any(optimizer is layer for layer in seen):
        seen.append(optimizer)
        yield optimizer
        inner = getattr(optimizer, "optimizer", None)
        optimizer = getattr(optimizer, "_optimizer", None) if inner is None else inner


def _flat(groups: Any) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    for group in groups:
        tensors += [group] if isinstance(group, torch.Tensor) else _flat(group)
    return tensors


def _pairs_of(owner: Any) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    for names in _GROUPS:
        low, high = (getattr(owner, name, None) for name in names)
        if isinstance(low, Sequence) and isinstance(high, Sequence):
            return _zip(_flat(low), _flat(high))
    given = getattr(owner, "master_params", None)
    groups = getattr(owner, "param_groups", None)
    if given is None or not isinstance(groups, Sequence):
        return None
    masters = _flat(given() if callable(given) else given)
    return _zip([p for group in groups for p in group["params"] if not any(p is master for master in masters)], masters)


def _zip(low: list[torch.Tensor], high: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    fits = len(low) == len(high) and all(a.numel() == b.numel() for a, b in zip(low, high))
    return [(a, b) for a, b in zip(low, high) if a is not b] if fits else None


def _in_state(state: Mapping[Any, Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for parameter, values in list(state.items()):
        if isinstance(parameter, torch.Tensor) and isinstance(values, Mapping):
            for name in _STATES:
                if isinstance(values.get(name), torch.Tensor):
                    yield parameter, values[name]


def hook_of(masters: Any, mirrors: list[Mirror]) -> Callable[[], object]:
    """Returns the hook for a trainer's `masters`: an optimizer, a mapping by name, masters in the order of the trained tensors, or (parameter, master) pairs."""
    known = masters_of(masters)
    if known is not None:
        return known
    if isinstance(masters, Mapping):
        by_name = {mirror.name: mirror for mirror in mirrors}
        unknown = [name for name in masters if name not in by_name]
        if unknown:
            raise ValueError(f"masters names '{unknown[0]}', which is not trained; trained are {', '.join(by_name)}")
        return _checked([(by_name[name], master) for name, master in masters.items()])
    try:
        items = list(masters)
    except TypeError:
        raise TypeError(
            f"masters is a {type(masters).__name__} without masters that are known: give tensors in the order of the parameters, a dict by name, "
            "(parameter, master) pairs, or pass on_parameters_changed"
        ) from None
    if items and all(isinstance(item, tuple) and len(item) == 2 for item in items):
        return lambda: copy_to_masters(items)
    if len(items) != len(mirrors):
        raise ValueError(f"masters has {len(items)} tensors, and {len(mirrors)} are trained: give one for each, or a dict by name")
    return _checked(list(zip(mirrors, items)))


def _checked(pairs: list[tuple[Mirror, Any]]) -> Callable[[], object]:
    for mirror, master in pairs:
        if not isinstance(master, torch.Tensor):
            raise TypeError(f"the master of '{mirror.name}' is a {type(master).__name__}: give a tensor")
        if local_part(master).numel() != mirror.local.numel():
            raise ValueError(f"the master of '{mirror.name}' has {local_part(master).numel()} elements, and the parameter {mirror.local.numel()}")
    return lambda: copy_to_masters((mirror.tensor, master) for mirror, master in pairs)


def _one_each(candidates: dict[str, list[torch.Tensor]]) -> dict[str, torch.Tensor] | None:
    """Returns the master of each parameter. If several tensors fit (zeros, for example), takes the one in the same container as a known master."""
    sure = {name: tensors[0] for name, tensors in candidates.items() if len(tensors) == 1}
    if len(sure) == len(candidates):
        return sure
    for master in sure.values():
        for container in gc.get_referrers(master):
            if type(container) not in (list, tuple, dict):
                continue
            things = list(container.values() if isinstance(container, dict) else container)
            kept = {thing.data_ptr() for thing in things if type(thing) in (torch.Tensor, torch.nn.Parameter)}
            near = {name: [tensor for tensor in tensors if tensor.data_ptr() in kept] for name, tensors in candidates.items() if name not in sure}
            if all(len(tensors) == 1 for tensors in near.values()):
                return {**sure, **{name: tensors[0] for name, tensors in near.items()}}
    return None


def _all_tensors() -> list[torch.Tensor]:
    """The plain tensors and parameters of this process.

    The list of all objects holds tuples that other threads are building, and a thread that builds a tuple fails with SystemError if
    another reference to it exists. So no other thread runs between the making and the freeing of that list.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SEARCH_LIMIT)
    try:
        time.sleep(0.001)  # threads that had asked for their turn take it now, and then wait for the new interval
        return [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    finally:
        sys.setswitchinterval(interval)


class Watch:
    """Notices that the inner optimizer writes over averages.

    After the step k at which the trainer changed the parameters from `before` to `after`, the optimizer makes a step. Where it works on
    the parameters, they are at about `after` + u next, u being its usual step; where it has masters, at `before` + u. A sample of the
    elements is looked at, in the steps k - 1, k and k + 1 alone.
    """

    _TENSORS = 16
    _ELEMENTS = 32  # of a tensor
    _NEAR = 0.4  # one inner step alone undoes this share of the distance only if it converges at once

    def __init__(self, mirrors: list[Mirror]) -> None:
        every = -(-len(mirrors) // self._TENSORS)
        self._mirrors = [mirror for mirror in mirrors[::every] if mirror.name != "nothing"]
        self._coordinates: list[tuple[torch.Tensor, ...]] = []
        for mirror in self._mirrors:
            with torch.device("cpu"):
                at = torch.linspace(0, mirror.local.numel() - 1, min(self._ELEMENTS, mirror.local.numel()), dtype=torch.float64).long()
                self._coordinates.append(torch.unravel_index(at, mirror.local.shape) if mirror.local.ndim else ())
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None  # before and after the trainer's call in the last step
        # Which elements the trainer has changed, and where the next step leads: by masters, without.
        self._armed: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
        self.in_a_row = 0

    def sample(self) -> torch.Tensor:
        by_device: dict[torch.device, list[torch.Tensor]] = {}
        for mirror, at in zip(self._mirrors, self._coordinates):
            local = local_part(mirror.tensor)
            elements = local[tuple([index.to(local.device) for index in at])] if local.ndim else local.reshape(1)
            by_device.setdefault(local.device, []).append(elements.float())
        samples = [torch.cat(parts).cpu().double() for parts in by_device.values()]
        return torch.cat(samples) if samples else torch.zeros(0, device="cpu", dtype=torch.float64)

    @property
    def is_armed(self) -> bool:
        return self._armed is not None

    def rest(self, now: torch.Tensor) -> None:
        """Records a step in which the trainer left the parameters unchanged. It will change them in the next step."""
        self._last = (now, now)

    def skip(self) -> None:
        """Records a step without a sample."""
        self._last = None

    def changed(self, before: torch.Tensor, after: torch.Tensor) -> None:
        """Records the parameters before and after the trainer's call. Arms the check if they differ."""
        last, self._last = self._last, (before, after)
        if not torch.equal(before, after) and bool(torch.isfinite(before).all() and torch.isfinite(after).all()):
            step_by_masters, step = (before - last[0], before - last[1]) if last is not None else (0.0, 0.0)
            self._armed = (before != after, before + step_by_masters, after + step)

    def overwritten(self, now: torch.Tensor) -> bool:
        """Whether the step since `changed` has lost what the trainer wrote."""
        assert self._armed is not None
        moved, *places = self._armed
        by_masters, expected = (float((now - place)[moved].norm()) for place in places)
        self._armed = None
        lost = by_masters < self._NEAR * expected
        self.in_a_row = self.in_a_row + 1 if lost else 0
        return lost


class Masters:
    """The hooks that a trainer calls after it has changed the parameters, and the detection of masters that it does not know."""

    def __init__(self, mirrors: list[Mirror], searches: bool = False) -> None:
        self._mirrors = mirrors
        self.hooks: list[Callable[[], object]] = []
        self.optimizers: list[Any] = []  # which may make their masters later, at their first step
        self.watch = Watch(mirrors)
        self._searches = searches
        self._candidates: dict[str, list[torch.Tensor]] | None = None
        self._warned = False

    def add(self, hook: Callable[[], object]) -> None:
        self._searches = False
        self.hooks.append(hook)

    def tell(self) -> None:
        for optimizer in self.optimizers:
            reload = masters_of(optimizer)
            if reload is not None:
                reload()
        for hook in list(self.hooks):
            hook()

    def look(self, now: torch.Tensor) -> None:
        """Checks the step that followed a change of the parameters."""
        if not self.watch.overwritten(now):
            self._candidates = None
            return
        if self._searches and not self._warned:  # after the warning, a result would not be used
            held = self._search()
            if self._candidates is None:
                self._candidates = held
            else:
                for name, tensors in self._candidates.items():
                    self._candidates[name] = [t for t in tensors if any(t.data_ptr() == other.data_ptr() for other in held[name])]
        if self.watch.in_a_row < _WARN_AFTER or self._warned:
            return
        self._warned = True
        self._adopt_or_warn()

    def _adopt_or_warn(self) -> None:
        candidates, self._candidates = self._candidates, None
        words = (
            "after each of the last two outer steps the inner step put the parameters back to where they were before the average, so that this "
            "peer trains alone. Inner optimizers that keep float32 masters do that"
        )
        masters = _one_each(candidates) if candidates is not None else None
        if masters is not None:
            self.add(_checked([(mirror, masters[mirror.name]) for mirror in self._mirrors]))
            words += (
                f". Found {len(masters)} tensors that equal the parameters and were updated with them: averages are written to these, too, from "
                "now on. Say so from the start by masters=[...] of the trainer (see docs/reference/python-guide.md)"
            )
        elif self.hooks or self.optimizers:
            words += ", and the masters or hooks that this trainer was given have not prevented it: check that they are those of this optimizer"
        else:
            words += ". Give the trainer the masters (masters=optimizer, or tensors), or a function that reads them again (on_parameters_changed=)"
            if not self._searches:
                words += ", or find_masters=True to search the process for them"
        warnings.warn(words, RuntimeWarning, stacklevel=5)

    def _search(self) -> dict[str, list[torch.Tensor]]:
        """Finds the tensors of this process that round to each parameter's current values."""
        own = {mirror.local.data_ptr() for mirror in self._mirrors} | {mirror.host.data_ptr() for mirror in self._mirrors}
        by_shape: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        for thing in _all_tensors():
            if thing.dtype in (torch.float32, torch.float64) and thing.layout is torch.strided and thing.device.type != "meta" and thing.data_ptr() not in own:
                by_shape.setdefault((thing.shape, thing.device), []).append(thing)
        out: dict[str, list[torch.Tensor]] = {}
        with torch.no_grad():
            for mirror in self._mirrors:
                local = local_part(mirror.tensor)
                alike: dict[int, torch.Tensor] = {}
                for thing in by_shape.get((local.shape, local.device), []):
                    if thing.data_ptr() not in alike and torch.equal(thing.detach().to(local.dtype), local):
                        alike[thing.data_ptr()] = thing
                out[mirror.name] = list(alike.values())
        return out
