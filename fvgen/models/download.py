"""The command that fetches released ViewCrafter weights from the Hugging Face hub: shown first, resumable, checked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fvgen.checks import InputError, complaint, require
from fvgen.command import run
from fvgen.files import sha256
from fvgen.models.viewcrafter_variants import VARIANTS, Variant, VariantName


@dataclass(frozen=True)
class DownloadOptions:
    """Fetch a released ViewCrafter checkpoint (about 10.4 GB)."""

    variant: Annotated[VariantName, tyro.conf.Positional]
    """Release to fetch. viewcrafter-512 takes the least memory (25 frames of 320x512). The others are for 576x1024
    pixels: viewcrafter-25, viewcrafter-25-sparse for sparse photos, and viewcrafter-16, by their number of frames."""
    folder: Path = Path("checkpoints")
    """Folder to fetch into; the file goes into a folder with the variant's name there."""
    yes: bool = False
    """Do not ask before fetching."""


@dataclass(frozen=True)
class RemoteFile:
    """The hub's description of a file."""

    revision: str
    size: int
    """bytes"""
    sha256: str
    licence: str


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(DownloadOptions, download, arguments, program)


def download(options: DownloadOptions) -> None:
    """Show what would be fetched, ask, fetch, check.

    Raises:
        InputError: the hub cannot be reached or does not have the file, the disk is too full, or the file that
            arrived is another.
    """
    variant = VARIANTS[options.variant]
    folder = options.folder / options.variant
    remote = describe(variant)
    print(f"repository   https://huggingface.co/{variant.repository} at {remote.revision}")
    print(f"file         {variant.file}, {remote.size:,} bytes ({remote.size / 1e9:.1f} GB)")
    print(f"licence      {remote.licence}")
    print(f"destination  {folder / variant.file}")
    if not options.yes and input("Fetch it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing fetched.")
        return
    path = fetch(variant, remote, folder)
    print("checking size and SHA-256", flush=True)
    check_file(path, remote)
    convert = f"fvgen convert {path} models/{options.variant} --variant {options.variant}"
    print(f"{path} is whole. Next: {convert}")


def describe(variant: Variant) -> RemoteFile:
    """Ask the hub about a variant's file.

    Raises:
        InputError: the hub does not answer or does not have the file.
    """
    from huggingface_hub import HfApi

    page = f"https://huggingface.co/{variant.repository}"
    try:
        info = HfApi().model_info(variant.repository, files_metadata=True, timeout=20)
    except Exception as error:  # whatever the client's HTTP library raises: the file's facts cannot be had
        reason = f"{type(error).__name__} for {page}"
        advice = f"Go online and run this again, or fetch {variant.file} from that page on another machine."
        raise InputError(complaint("the Hugging Face hub", "be reachable", reason, advice)) from error
    found = [file for file in info.siblings or [] if file.rfilename == variant.file and file.lfs is not None]
    require(bool(found), page, f"hold {variant.file}", "no such file", "See what the page holds now.")
    card = info.card_data.to_dict() if info.card_data is not None else {}
    licence = card.get("license", "not stated on the page (ViewCrafter's code: Apache-2.0)")
    lfs: Any = found[0].lfs
    return RemoteFile(str(info.sha), int(lfs.size), str(lfs.sha256), str(licence))


def fetch(variant: Variant, remote: RemoteFile, folder: Path) -> Path:
    """Download into ``folder``, going on where an earlier attempt stopped.

    Raises:
        InputError: the disk is too full, or the transfer stopped.
    """
    from huggingface_hub import hf_hub_download

    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    require(
        free > remote.size, str(folder), f"have {remote.size:,} bytes free", f"{free:,}", "Choose another --folder."
    )
    try:
        return Path(hf_hub_download(variant.repository, variant.file, revision=remote.revision, local_dir=folder))
    except Exception as error:  # whatever the client's HTTP library raises: what has arrived is kept
        advice = "Run this again: it goes on where it stopped."
        raise InputError(complaint("the download", "run to its end", type(error).__name__, advice)) from error


def check_file(path: Path, remote: RemoteFile) -> None:
    """Raise `InputError` unless the file has the size and SHA-256 that the hub lists."""
    size, again = path.stat().st_size, "Delete it and run this again."
    require(size == remote.size, str(path), f"have {remote.size:,} bytes", f"{size:,}", again)
    found = sha256(path)
    require(found == remote.sha256, str(path), f"hash to {remote.sha256}", found, again)
