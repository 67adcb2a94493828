"""Where finished views are kept, and what they depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

import fvgen
from fvgen.data.capture import DEPTH_UNIT, CaptureFrame
from fvgen.generation.model_folder import NEEDS_MODEL, locate_model, model_fingerprint
from fvgen_ns.densify_config import DensifyConfig

_NOT_IN_KEY = {"cache_dir", "views", "low_memory", "model"}
"""Settings that do not change what is made; of the model its content counts, not its path."""


def views_key(outputs: DataparserOutputs, frames: list[CaptureFrame], config: DensifyConfig) -> str:
    """Hash of the photos' bytes, cameras, sparse points and settings: other views for any other of them.

    The dataparser's transform counts too: views are stored in the capture's frame, and would come back elsewhere.
    """
    digest = hashlib.sha256(fvgen.__version__.encode())
    unit = outputs.metadata.get("depth_unit_scale_factor", DEPTH_UNIT)
    digest.update(outputs.dataparser_transform.double().numpy().round(6).tobytes())
    digest.update(f"{outputs.dataparser_scale:.6g} {unit:.6g}".encode())
    for frame in frames:
        digest.update(frame.photo.read_bytes())
        for path in (frame.depth, frame.mask):
            digest.update(b"-" if path is None else path.read_bytes())
        digest.update(frame.c2w.round(6).tobytes() + frame.K.round(4).tobytes())
        digest.update(repr(frame.distortion).encode())
    points = outputs.metadata.get("points3D_xyz")
    if points is not None:
        digest.update(points.numpy().tobytes())
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in _NOT_IN_KEY}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    if config.generator in NEEDS_MODEL:
        model = locate_model(config.generator, config.model)
        digest.update(b"-" if model is None else model_fingerprint(model).encode())
    return digest.hexdigest()


def cache_folder(outputs: DataparserOutputs, config: DensifyConfig, key: str) -> Path:
    """``NAME-KEY`` in the chosen folder, or in ``fvgen`` of the user's cache (``XDG_CACHE_HOME``, ``~/.cache``).

    The capture itself may be read-only, and ns-eval must find the views from another working folder.
    """
    root = config.cache_dir
    if root is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fvgen"
    first = outputs.image_filenames[0].resolve()
    capture = first.parent.parent if first.parent.name.startswith("images") else first.parent
    return root / f"{capture.name}-{key[:12]}"
