"""The command that fetches released weights from the Hugging Face hub: shown first, resumable, checked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from fvgen.checks import InputError, complaint, require
from fvgen.command import run
from fvgen.files import sha256
from fvgen.models.depth_anything import FILES, MODELS, RELEASES
from fvgen.models.viewcrafter_variants import VARIANTS, VariantName


@dataclass(frozen=True)
class DownloadOptions:
    """Fetch released weights: a ViewCrafter checkpoint (about 10.4 GB), or a network for depth (about 0.1 GB)."""

    release: Annotated[
        VariantName | Literal["depth-anything-v2-small", "prompt-depth-anything-small"], tyro.conf.Positional
    ]
    """Release to fetch. Of ViewCrafter's, viewcrafter-512 takes the least memory (25 frames of 320x512). The others are
    for 576x1024 pixels: viewcrafter-25, viewcrafter-25-sparse for sparse photos, and viewcrafter-16, by their number of
    frames. The last two say how deep one photo alone is (--geometry-completion depth-anything)."""
    folder: Path | None = None
    """Folder to fetch into; the files go into a folder with the release's name there. By default checkpoints, and
    models for what needs no conversion."""
    yes: bool = False
    """Do not ask before fetching."""


class Release(NamedTuple):
    """What is fetched, and what to do with it."""

    repository: str
    """Repository on the Hugging Face hub."""
    files: tuple[str, ...]
    folder: Path
    """Default of `DownloadOptions.folder`."""
    next_step: str
    """With {path} for the folder or the only file."""


@dataclass(frozen=True)
class RemoteFile:
    """The hub's description of a file."""

    name: str
    size: int
    """bytes"""
    sha256: str | None
    """None for a small file, of which the hub lists none."""


@dataclass(frozen=True)
class RemoteFiles:
    """The hub's description of a release."""

    revision: str
    licence: str
    files: list[RemoteFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def _release(name: str) -> Release:
    if name in RELEASES:
        train = "ns-train fvgen-splat --data CAPTURE --geometry-completion depth-anything --depth-model {path}"
        return Release(RELEASES[name].repository, FILES, MODELS, train)
    variant = VARIANTS[name]  # type: ignore[index]
    convert = f"fvgen convert {{path}} models/{name} --variant {name}"
    return Release(variant.repository, (variant.file,), Path("checkpoints"), convert)


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(DownloadOptions, download, arguments, program)


def download(options: DownloadOptions) -> None:
    """Show what would be fetched, ask, fetch, check.

    Raises:
        InputError: the hub cannot be reached or does not have the files, the disk is too full, or a file that arrived
            is another.
    """
    release = _release(options.release)
    folder = (options.folder or release.folder) / options.release
    remote = describe(release)
    print(f"repository   https://huggingface.co/{release.repository} at {remote.revision}")
    for file in remote.files:
        print(f"file         {file.name}, {file.size:,} bytes ({file.size / 1e9:.1f} GB)")
    print(f"licence      {remote.licence}")
    print(f"destination  {folder}")
    if not options.yes and input("Fetch it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing fetched.")
        return
    paths = fetch(release, remote, folder)
    print("checking size and SHA-256", flush=True)
    for path, file in zip(paths, remote.files, strict=True):
        check_file(path, file)
    path = paths[0] if len(paths) == 1 else folder
    print(f"{path} is whole. Next: {release.next_step.format(path=path)}")


def describe(release: Release) -> RemoteFiles:
    """Ask the hub about a release's files.

    Raises:
        InputError: the hub does not answer or does not have them.
    """
    from huggingface_hub import HfApi

    page = f"https://huggingface.co/{release.repository}"
    try:
        info = HfApi().model_info(release.repository, files_metadata=True, timeout=20)
    except Exception as error:  # whatever the client's HTTP library raises: the files' facts cannot be had
        reason = f"{type(error).__name__} for {page}"
        advice = f"Go online and run this again, or fetch {', '.join(release.files)} from that page on another machine."
        raise InputError(complaint("the Hugging Face hub", "be reachable", reason, advice)) from error
    listed = {file.rfilename: file for file in info.siblings or []}
    missing = [name for name in release.files if name not in listed]
    require(not missing, page, f"hold {', '.join(missing)}", "no such file", "See what the page holds now.")
    card = info.card_data.to_dict() if info.card_data is not None else {}
    licence = card.get("license", "not stated on the page (ViewCrafter's code: Apache-2.0)")
    return RemoteFiles(str(info.sha), str(licence), [_remote(listed[name]) for name in release.files])


def _remote(file: Any) -> RemoteFile:
    if file.lfs is None:
        return RemoteFile(file.rfilename, int(file.size), None)
    return RemoteFile(file.rfilename, int(file.lfs.size), str(file.lfs.sha256))


def fetch(release: Release, remote: RemoteFiles, folder: Path) -> list[Path]:
    """Download into ``folder``, going on where an earlier attempt stopped.

    Raises:
        InputError: the disk is too full, or the transfer stopped.
    """
    from huggingface_hub import hf_hub_download

    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, f"have {remote.size:,} bytes free"
    require(free > remote.size, str(folder), needed, f"{free:,}", "Choose another --folder.")
    repository, revision = release.repository, remote.revision
    try:
        return [
            Path(hf_hub_download(repository, file.name, revision=revision, local_dir=folder)) for file in remote.files
        ]
    except Exception as error:  # whatever the client's HTTP library raises: what has arrived is kept
        advice = "Run this again: it goes on where it stopped."
        raise InputError(complaint("the download", "run to its end", type(error).__name__, advice)) from error


def check_file(path: Path, remote: RemoteFile) -> None:
    """Raise `InputError` unless the file has the size and, where the hub lists one, the SHA-256."""
    size, again = path.stat().st_size, "Delete it and run this again."
    require(size == remote.size, str(path), f"have {remote.size:,} bytes", f"{size:,}", again)
    if remote.sha256 is not None:
        found = sha256(path)
        require(found == remote.sha256, str(path), f"hash to {remote.sha256}", found, again)
