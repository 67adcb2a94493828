"""Reference vectors as they lie on disk: one safetensors file each, configuration in a json beside it or inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from fvgen.checks import InputError, complaint, require


@dataclass(frozen=True)
class Comparison:
    """One tensor against its reference."""

    name: str
    error: float
    """Largest absolute difference, or units in the last place where ``unit`` is ulp."""
    tolerance: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance (NaN is not)."""
        return self.error <= self.tolerance

    @property
    def share(self) -> float:
        """Error over tolerance; infinite for NaN."""
        return self.error / self.tolerance if self.error == self.error else float("inf")


@dataclass
class VectorFile:
    """The tensors of one file, each looked up by name and ticked off, so that nothing is passed over in silence."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    used: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, path: Path) -> VectorFile:
        """Read ``path`` and the json of the same name; without one, the configuration in the file's own metadata.

        Raises:
            InputError: for a file that safetensors or json cannot read.
        """
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
                metadata = file.metadata() or {}
            beside = path.with_suffix(".json")
            config = _flat(json.loads(beside.read_text()) if beside.exists() else _parsed(metadata))
        except Exception as error:  # safetensors raises its own type, json a ValueError; both mean an unreadable file
            what = f"{type(error).__name__}: {error}"
            raise InputError(complaint(path.name, "be readable", what, "Copy the file again.")) from error
        return cls(path, tensors, config)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> Tensor:
        require(name in self.tensors, self.path.name, f"hold a tensor {name}", "none", "Check the file's layout.")
        self.used.add(name)
        return self.tensors[name]

    def setting(self, *names: str) -> Any:
        """The configuration's entry at this path of names.

        Raises:
            InputError: when there is none.
        """
        entry: Any = self.config
        for name in names:
            found = isinstance(entry, dict) and name in entry
            require(
                found,
                f"{self.path.name}'s configuration",
                f"say {'.'.join(names)}",
                "nothing",
                "Put the json of the same name beside the file.",
            )
            entry = entry[name]
        return entry

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Every tensor whose name starts with ``prefix``, named without it."""
        found = {name: self[name] for name in self.tensors if name.startswith(prefix)}
        return {name.removeprefix(prefix): tensor for name, tensor in found.items()}

    def prefixes(self, ending: str) -> list[str]:
        """What stands before ``ending`` in the names that end with it: the cases of a file that holds several."""
        return sorted(name.removesuffix(ending) for name in self.tensors if name.endswith(ending))

    def unused(self) -> list[str]:
        """References nobody looked up: a file must not pass on part of what it holds."""
        inputs = ("in", "sd")
        return [name for name in self.tensors if name not in self.used and not set(inputs) & set(name.split("."))]

    def compare(self, name: str, actual: Tensor, tolerance: float, known: Tensor | None = None) -> Comparison:
        """``actual`` against the reference called ``name``: largest absolute difference.

        The tolerance is for values of order 1. It grows with the reference's deviation, and for references stored in
        half precision by eight of their roundings. ``known``, a bool mask of the reference's shape, restricts both.
        """
        reference = self[name]
        _same_shape(name, actual, reference)
        if known is not None:
            actual, reference = actual[known], reference[known]
        allowed = tolerance
        if reference.is_floating_point() and reference.numel() > 1:
            wide = reference.double()
            allowed *= max(1.0, float(wide.std()))
            if reference.dtype in (torch.float16, torch.bfloat16):
                allowed += 8 * torch.finfo(reference.dtype).eps * float(wide.abs().max())
        return Comparison(name, largest_difference(actual, reference), allowed)

    def compare_ulps(self, name: str, actual: Tensor, tolerance: float = 1.0) -> Comparison:
        """``actual`` against the reference called ``name``, in units in the last place of the reference's dtype."""
        reference = self[name]
        _same_shape(name, actual, reference)
        if not reference.is_floating_point():
            return Comparison(name, largest_difference(actual, reference), 0.0)
        actual = actual.to(reference.dtype)
        above = torch.nextafter(reference.abs(), torch.full_like(reference, torch.inf))
        ulps = (actual.double() - reference.double()).abs() / (above.double() - reference.abs().double())
        return Comparison(name, _largest(ulps), tolerance, "ulp")


def _parsed(metadata: dict[str, str]) -> dict[str, Any]:
    """Metadata entries, each parsed where it is json."""
    config: dict[str, Any] = {}
    for name, text in metadata.items():
        try:
            config[name] = json.loads(text)
        except json.JSONDecodeError:
            config[name] = text
    return config


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with what its entry ``config`` holds beside it: kinds differ in where numbers stand."""
    inner = config.get("config")
    return {**inner, **config} if isinstance(inner, dict) else config


def _same_shape(name: str, actual: Tensor, reference: Tensor) -> None:
    require(
        actual.shape == reference.shape,
        name,
        f"have the reference's shape {tuple(reference.shape)}",
        tuple(actual.shape),
        "Layouts disagree.",
    )


def _largest(values: Tensor) -> float:
    """The largest value; NaN if one is NaN (torch's max keeps it), 0 for none."""
    return float(values.max()) if values.numel() else 0.0


def largest_difference(actual: Tensor, reference: Tensor) -> float:
    """max |actual - reference| in float64; NaN when either holds one."""
    return _largest((actual.detach().double() - reference.double()).abs())


Comparisons = Iterator[Comparison]
