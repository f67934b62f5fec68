"""What is computed when it is first asked for: attributes, and kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from threading import RLock
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
Value = TypeVar("Value")

#: Held while a kernel is made, which begins with importing the compiler. Forks wait for it (see
#: `patchsim.threads`): the child would find a module half imported for ever.
making = RLock()


def made_once(function: Callable[P, Value]) -> Callable[P, Value]:
    """As `functools.cache`, of what makes kernels."""

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Value:
        with making:
            return function(*args, **kwargs)

    return cache(make)  # type: ignore[return-value]


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
