"""Protocols: which photos a method gets and which it is compared with, as small files that anyone can read and add to.

The files lie in ``fvgen/evaluation/protocols``; a user's own is a JSON file of the same form, or one that lists names:
``"split": {"rule": "names", "scenes": {"fern": {"train": [...], "test": [...]}}}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fvgen.checks import InputError, complaint, require

Layout = Literal["llff", "colmap", "blender", "any"]
PROTOCOLS = ("llff", "mip360", "blender", "fvgen-5-to-56", "fvgen-2-to-16", "own-split")


@dataclass(frozen=True)
class Split:
    """Indices into the photos, sorted by name."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    note: str = ""
    """What the rule could not do in full; empty where it could."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is used."""

    name: str
    about: str
    """The rules in words, and who uses them."""
    layout: Layout
    """How the folder of a scene is read."""
    scenes: tuple[str, ...] | None
    """Names of all scenes; None where any folder serves."""
    split: Mapping[str, Any]
    """``rule`` and its numbers."""
    shrink: int
    """The photos' size is divided by this."""
    background: str | None
    """Colour behind photos that have an alpha channel."""
    published: str | None
    """Table of `fvgen.evaluation.published_rows` to stand beside."""
    get: str
    """Where the data are."""
    differs: str
    """How this differs from what papers do."""

    @property
    def views(self) -> tuple[int, ...]:
        """Numbers of training photos that the protocol knows; empty where it has one split only."""
        return tuple(self.split.get("views", ()))

    def choose(self, scene: str, names: Sequence[str], views: int | None = None, own: Split | None = None) -> Split:
        """The split of a scene.

        Args:
            scene: name of the scene.
            names: file names of its photos, sorted.
            views: number of training photos, one of `views`.
            own: the capture's own split, for the rule "own", and Blender's for "ids".

        Raises:
            InputError: too few photos for the rule, a number of views that the protocol does not know, or names that
                the scene does not have.
        """
        if self.views:
            known = ", ".join(map(str, self.views))
            step = f"Choose --views out of them. Protocol {self.name}: {self.about}"
            require(views in self.views, "views", f"be {known}", "none" if views is None else views, step)
        rule = self.split["rule"]
        if rule == "every 8th":
            return _every_eighth(len(names), views or 0)
        if rule == "between":
            return _between(len(names), self.split)
        if rule == "names":
            return _by_names(scene, names, self.split["scenes"])
        require(own is not None, f"scene {scene}", "name its training and test photos", "neither", self.get)
        assert own is not None
        if rule == "ids":
            return _by_ids(own, self.split)
        require(bool(own.test), f"scene {scene}", "hold photos back in test_filenames", "none", "Name some there.")
        return own


def load_protocol(name: str) -> Protocol:
    """A protocol by name, or from a user's file.

    Raises:
        InputError: there is none of that name, or the file is damaged.
    """
    path = Path(name)
    if name in PROTOCOLS:
        text = (files("fvgen.evaluation") / "protocols" / f"{name}.json").read_text(encoding="utf-8")
    else:
        known = f"be {', '.join(PROTOCOLS)} or a JSON file"
        require(path.suffix == ".json" and path.is_file(), "protocol", known, name, "See docs/results.md.")
        text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
        scenes = found.get("scenes")
        return Protocol(
            name=path.stem,
            about=found["about"],
            layout=found.get("layout", "any"),
            scenes=None if scenes is None else tuple(scenes),
            split=found["split"],
            shrink=int(found.get("shrink", 1)),
            background=found.get("background"),
            published=found.get("published"),
            get=found.get("get", "Ask whoever wrote the protocol."),
            differs=found.get("differs", ""),
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        rule = "be a protocol: JSON with 'about' and 'split'"
        raise InputError(complaint(f"protocol {name}", rule, f"'{error}'", "Compare it with a bundled one.")) from error


def _every_eighth(count: int, views: int) -> Split:
    """RegNeRF's rule for LLFF and mip-NeRF 360."""
    test = list(range(0, count, 8))
    others = [i for i in range(count) if i % 8]
    rule = f"leave {views} photos beside every 8th"
    require(len(others) >= views, "the scene", rule, f"{count} photos", "Choose fewer --views.")
    chosen = np.linspace(0, len(others) - 1, views).round().astype(int)
    return Split(tuple(others[i] for i in chosen), tuple(test))


def _between(count: int, rule: Mapping[str, Any]) -> Split:
    """Inputs, and between each two of them the photos that are generated."""
    inputs, between = int(rule["inputs"]), int(rule["between"])
    possible = (count - inputs) // (inputs - 1)
    least = f"have {inputs} photos and one between each two"
    require(possible >= 1, "the scene", least, f"{count} photos", "Choose a capture with more photos.")
    each = min(between, possible)
    frames = inputs + (inputs - 1) * each
    if rule.get("in_a_row"):
        first = (count - frames) // 2
        chosen = list(range(first, first + frames))
    else:
        chosen = np.linspace(0, count - 1, frames).round().astype(int).tolist()
    train = tuple(chosen[:: each + 1])
    note = "" if each == between else f"{each} views between two inputs instead of {between}: {count} photos in all."
    return Split(train, tuple(i for i in chosen if i not in train), note)


def _by_ids(own: Split, rule: Mapping[str, Any]) -> Split:
    """Blender's training photos by number, and every so many of its test photos."""
    ids = rule["train"]
    most = f"have training photos up to number {max(ids)}"
    require(max(ids) < len(own.train), "the scene", most, len(own.train), "Fetch the whole data set.")
    return Split(tuple(own.train[i] for i in ids), own.test[:: rule["test_every"]])


def _by_names(scene: str, names: Sequence[str], scenes: Mapping[str, Any]) -> Split:
    step = "Compare the names with the scene's photos."
    require(scene in scenes, "scene", f"be one of {', '.join(scenes)}", scene, step)
    place = {name: i for i, name in enumerate(names)}
    wanted = [*scenes[scene]["train"], *scenes[scene]["test"]]
    missing = [name for name in wanted if name not in place]
    require(not missing, f"scene {scene}", "have the photos that the protocol names", ", ".join(missing[:5]), step)
    train, test = (tuple(place[name] for name in scenes[scene][part]) for part in ("train", "test"))
    return Split(train, test)
