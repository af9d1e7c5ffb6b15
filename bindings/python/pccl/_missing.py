"""Placeholders for a tensor library that is not installed."""

from __future__ import annotations

from typing import NoReturn

from ._tensor_errors import MissingModuleError


def missing(module: str, title: str, name: str) -> NoReturn:
    """Raises MissingModuleError for the use of `name` of the module; AttributeError for what Python itself asks of any module."""
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise MissingModuleError(f"cannot use {module}.{name}: {title} is not installed. Install it (pip install {module}), or do without it", name=module)


class Missing:
    """Importing it succeeds, as in version 1, and using it raises MissingModuleError."""

    def __init__(self, module: str, title: str) -> None:
        self._module = module
        self._title = title

    def __getattr__(self, name: str) -> NoReturn:
        missing(self._module, self._title, name)
