"""Short names of this plugin's options: ``--generator`` for ``--pipeline.datamanager.densify.generator``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from inspect import get_annotations
from typing import Annotated, TypeVar, get_type_hints

import tyro

T = TypeVar("T", bound=type)


def short_forms(*without: str) -> Callable[[T], T]:
    """A decorator of a class below ``@dataclass``: each option of its own gets its plain name as a second one.

    Args:
        without: fields that keep the long name alone; groups of options and private fields do anyway.
    """

    def decorate(cls: T) -> T:
        hints = get_type_hints(cls, include_extras=True)
        for name in get_annotations(cls):
            if name.startswith("_") or name in without or is_dataclass(hints[name]):
                continue
            alias = tyro.conf.arg(aliases=(f"--{name.replace('_', '-')}",))
            cls.__annotations__[name] = Annotated[hints[name], alias]
        return cls

    return decorate


def inherited_forms_alone(cls: T) -> T:
    """A decorator of a class above ``@dataclass`` that is a command of its own: what it inherits has one name, which is
    the short one already."""
    for name, hint in get_type_hints(cls).items():
        cls.__annotations__.setdefault(name, hint)
    return cls
