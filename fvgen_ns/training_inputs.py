"""A capture in memory: what training starts from."""

from __future__ import annotations

from dataclasses import dataclass

from nerfstudio.data.dataparsers.base_dataparser import DataParser

from fvgen.checks import require
from fvgen.data.decoded_frame import DecodedFrame
from fvgen.data.frame_checks import check_frame
from fvgen.data.working_size import ScaledFrame, at_size, capture_of, working_size
from fvgen.types import Capture
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify import makes_views
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.fvgen_dataparser import FVGenDataParser
from fvgen_ns.progress_bars import progress_bars
from fvgen_ns.training_photo import TrainingPhoto

NOTHING_HELD_OUT = "No photos are held out: all figures and comparisons are of photos that the splat was trained on."


@dataclass(frozen=True)
class TrainingInputs:
    """Photos at the sizes that are worked on, each decoded once for all of it."""

    training: CaptureSplit
    photos: list[TrainingPhoto]
    """The photos of ``training``."""
    capture: Capture | None
    """The same photos at the size that geometry works on; None where nothing has to be made."""
    held_out: CaptureSplit
    """The photos to compare with: the training photos where none are held out."""
    held_out_photos: list[TrainingPhoto]

    @staticmethod
    def read(parser: DataParser, image_size: int, config: DensifyConfig) -> TrainingInputs:
        """Read a capture; photos that cannot be decoded are left out, and noted.

        Args:
            parser: of the capture.
            image_size: longest side that the splat trains on, in pixels.
            config: what is added to the photos.

        Raises:
            InputError: the capture or the settings cannot be used, or fewer than two photos to train on can be read.
        """
        if isinstance(parser, FVGenDataParser):
            parser.decodes = False  # that is done here, once
        training, held_out = CaptureSplit.read(parser, "train"), CaptureSplit.read(parser, "val")
        training.check_training()
        for frame in held_out.frames:
            check_frame(frame)
        config.check_depth(training)
        has_to_make = makes_views(training, config)
        size = working_size([frame.size for frame in training.frames], config.working_size)

        def both(decoded: DecodedFrame) -> tuple[TrainingPhoto, ScaledFrame | None]:
            return TrainingPhoto.of(decoded, image_size), at_size(decoded, size) if has_to_make else None

        needed = 2 * max(image_size, *size)
        with progress_bars() as progress:
            training, read = training.decode(both, at_least=needed, what="training photos", progress=progress)
            photos = [photo for photo, _ in read]
            held_out, compared = held_out.decode(
                lambda one: TrainingPhoto.of(one, image_size),
                at_least=needed,
                what="held-out photos",
                progress=progress,
                known={frame.photo: photo for frame, photo in zip(training.frames, photos, strict=True)},
            )
        enough = "have at least 2 photos to train on"
        require(len(photos) >= 2, "capture", enough, len(photos), " ".join(training.notes))
        training.check_depth()
        if not held_out.frames:
            held_out, compared = training, photos
        if {frame.photo for frame in held_out.frames} <= {frame.photo for frame in training.frames}:
            training = training.with_note(NOTHING_HELD_OUT)
        scaled = [one for _, one in read if one is not None]
        capture = capture_of(scaled, training.sparse) if scaled else None
        return TrainingInputs(training, photos, capture, held_out, compared)
