"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class once(Generic[Value]):
    """As `functools.cached_property`, which before Python 3.12 takes a lock.

    All objects of a class would share it, and a process that is forked while another thread holds
    it would inherit it.
    """

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Value:
        value: Value = self.function(instance)
        vars(instance)[self.function.__name__] = value
        return value
