"""Photos and generated views, mixed for training; evaluation never sees a generated view."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig

from fvgen.checks import require
from fvgen.data.decoded_frame import DecodedFrame
from fvgen.data.frame_checks import check_frame
from fvgen.data.working_size import ScaledFrame, at_size, capture_of, working_size
from fvgen.types import Capture
from fvgen_ns.densify import DensifyConfig, densify, progress_bars, views_are_made
from fvgen_ns.frames import CaptureSplit
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.fvgen_dataset import FVGenDataset, ViewWeights
from fvgen_ns.training_photo import TrainingPhoto


@dataclass
class FVGenDataManagerConfig(FullImageDatamanagerConfig):
    """Where training images come from."""

    _target: type = field(default_factory=lambda: FVGenDataManager)
    dataparser: AnnotatedDataParserUnion = field(default_factory=FVGenDataParserConfig)
    """How the capture is read; fvgen-data finds out by itself whether it is Nerfstudio's, COLMAP's or Blender's."""
    image_size: int = 480
    """Longest side of the images that the splat is trained and evaluated on, in pixels."""
    max_points: int = 80_000
    """Most Gaussians to start from."""
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    """Dense points and generated views."""
    generated_share: float = 0.2
    """Share of the iterations that train on a generated view."""
    covered_weight: float = 0.35
    """Loss weight of a generated view's pixels where the point cloud was seen; a photo's pixels have 1."""
    hole_weight: float = 0.15
    """Loss weight of a generated view's pixels that were made up, times their confidence."""
    cache_images_type: Literal["uint8", "float32"] = "uint8"
    """Type in which images are kept in memory: uint8 takes a quarter of float32."""

    def read_inputs(self) -> TrainingInputs:
        """Read the capture, each photo once, and refuse what cannot be trained on before anything is written.

        `FVGenDataManager` takes over what was read.

        Raises:
            InputError: naming what is wrong and what to do.
        """
        require(self.image_size >= 1, "--image-size", "be at least 1 pixel", self.image_size, "Ask for more.")
        require(
            0 <= self.generated_share < 1,
            "--generated-share",
            "lie in [0, 1)",
            self.generated_share,
            "Ask for 0 to train on photos alone.",
        )
        require(self.max_points >= 1, "--max-points", "be positive", self.max_points, "Ask for more.")
        if self.data is not None:
            self.dataparser.data = Path(self.data)
        parser = self.dataparser.setup()
        training, held_out = CaptureSplit.read(parser, "train"), CaptureSplit.read(parser, "val")
        training.check_training()
        for frame in held_out.frames:
            check_frame(frame)
        self.densify.check(training)
        inputs = read_training_inputs(training, held_out, self.image_size, self.densify)
        vars(self)["_inputs"] = inputs
        return inputs

    def take_inputs(self) -> TrainingInputs | None:
        """What `read_inputs` has read, which is let go of here."""
        return vars(self).pop("_inputs", None)

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: config.yml holds no pixels."""
        return {name: value for name, value in vars(self).items() if name != "_inputs"}


@dataclass(frozen=True)
class TrainingInputs:
    """A capture in memory: what training starts from."""

    training: CaptureSplit
    photos: list[TrainingPhoto]
    """Of ``training``."""
    capture: Capture | None
    """The same photos at the size that geometry works on; None where nothing has to be made."""
    held_out: CaptureSplit
    held_out_photos: list[TrainingPhoto]


def read_training_inputs(
    training: CaptureSplit, held_out: CaptureSplit, image_size: int, config: DensifyConfig
) -> TrainingInputs:
    """Decode every photo once, for all that works on it.

    Raises:
        InputError: fewer than two photos to train on can be read.
    """
    makes_views = config.geometry != "none" and not views_are_made(training, config)
    size = working_size([frame.size for frame in training.frames], config.working_size)

    def both(decoded: DecodedFrame) -> tuple[TrainingPhoto, ScaledFrame | None]:
        return TrainingPhoto.of(decoded, image_size), at_size(decoded, size) if makes_views else None

    needed = 2 * max(image_size, *size)
    with progress_bars() as progress:
        training, read = training.decode(both, needed, progress)
        held_out, held_out_photos = held_out.decode(
            lambda decoded: TrainingPhoto.of(decoded, image_size), needed, progress
        )
    require(len(read) >= 2, "capture", "have at least 2 photos to train on", len(read), " ".join(training.notes))
    photos = [photo for photo, _ in read]
    if not held_out.frames:
        held_out, held_out_photos = training, photos
    scaled = [one for _, one in read if one is not None]
    return TrainingInputs(
        training, photos, capture_of(scaled, training.sparse) if scaled else None, held_out, held_out_photos
    )


class FVGenDataManager(FullImageDatamanager[FVGenDataset]):
    """`FullImageDatamanager` that densifies the capture while it is built.

    Views are generated only where training starts, from what its config has read; everywhere else the cache is read.
    """

    config: FVGenDataManagerConfig

    def __init__(self, config: FVGenDataManagerConfig, *args, **kwargs) -> None:
        self._inputs = config.take_inputs()
        super().__init__(config, *args, **kwargs)
        self._inputs = None

    def create_train_dataset(self) -> FVGenDataset:
        inputs = self._inputs
        split = CaptureSplit.of(self.train_dataparser_outputs) if inputs is None else inputs.training
        split = densify(
            split,
            self.config.densify,
            max_points=self.config.max_points,
            image_size=self.config.image_size,
            capture=None if inputs is None else inputs.capture,
        )
        self.train_dataparser_outputs = split.outputs
        self.notes = split.notes
        dataset = self._dataset(split, None if inputs is None else inputs.photos)
        self.is_photo = dataset.is_photo
        self._photos = [i for i, is_photo in enumerate(dataset.is_photo) if is_photo]
        self._generated = [i for i, is_photo in enumerate(dataset.is_photo) if not is_photo]
        return dataset

    def create_eval_dataset(self) -> FVGenDataset:
        if self._inputs is not None:
            return self._dataset(self._inputs.held_out, self._inputs.held_out_photos)
        return self._dataset(CaptureSplit.read(self.dataparser, self.test_split))

    def _dataset(self, split: CaptureSplit, photos: list[TrainingPhoto] | None = None) -> FVGenDataset:
        weights = ViewWeights(self.config.covered_weight, self.config.hole_weight)
        return FVGenDataset(split, self.config.image_size, weights, dict(enumerate(photos or [])))

    def next_train(self, step: int) -> tuple[Cameras, dict]:
        """A photo, or for `generated_share` of the steps a generated view; the choice depends on the step alone, so
        a resumed run goes on as an unbroken one would."""
        seed = self.config.train_cameras_sampling_seed
        choice = random.Random(f"{seed} step {step}")
        if self._generated and choice.random() < self.config.generated_share:
            index = choice.choice(self._generated)
        else:
            epoch, place = divmod(step, len(self._photos))
            order = self._photos.copy()
            random.Random(f"{seed} epoch {epoch}").shuffle(order)
            index = order[place]
        data = self.cached_train[index].copy()
        data["image"] = data["image"].to(self.device)
        camera = self.train_cameras[index : index + 1].to(self.device)
        camera.metadata = {**(camera.metadata or {}), "cam_idx": index}
        return camera, data
