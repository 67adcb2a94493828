"""Photos and generated views, mixed for training; evaluation never sees a generated view."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture_notes import gathered
from fvgen.devices import is_gpu
from fvgen.generation.view_weights import ViewWeights
from fvgen.poses.options import PoseOptions
from fvgen_ns.capture_split import CaptureSplit, GivenOutputsConfig
from fvgen_ns.densify import GeneratedFrames, densify
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.frames import concatenate
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.fvgen_dataset import FVGenDataset
from fvgen_ns.refusal import refuse
from fvgen_ns.short_forms import short_forms
from fvgen_ns.training_inputs import TrainingInputs
from fvgen_ns.training_photo import TrainingPhoto


@dataclass
@short_forms("dataparser")
class FVGenDataManagerConfig(FullImageDatamanagerConfig):
    """Where training images come from."""

    _target: type = field(default_factory=lambda: FVGenDataManager)
    dataparser: AnnotatedDataParserUnion = field(default_factory=FVGenDataParserConfig)
    """How the capture is read. The choice fvgen-data finds out by itself which tool has written it."""
    image_size: int = 480
    """Longest side of the images that the splat is trained and evaluated on, in pixels."""
    max_points: int = 80_000
    """Most Gaussians to start from."""
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    """Dense points and generated views."""
    poses: PoseOptions = field(default_factory=PoseOptions)
    """How the poses of photos that have none are found."""
    generated_share: float = 0.2
    """Share of the iterations that train on a generated view."""
    covered_weight: float = ViewWeights.covered
    """Loss weight of a generated view's pixels where the point cloud was seen. A photo's pixels have 1."""
    hole_weight: float = ViewWeights.holes
    """Loss weight of a generated view's pixels that were made up, times their confidence."""
    cache_images_type: Literal["uint8", "float32"] = "uint8"
    """Type in which images are kept in memory: uint8 takes a quarter of float32."""

    def check(self) -> None:
        """Refuse settings that no capture could be trained with.

        Raises:
            InputError: naming the option.
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
        self.densify.check()

    def read_inputs(self) -> None:
        """Read the capture, each photo once, and refuse what cannot be trained on before anything is written.

        `FVGenDataManager` takes over what was read.

        Raises:
            InputError: naming what is wrong and what to do.
        """
        self.check()
        if self.data is not None:
            self.dataparser.data = self.data
        vars(self)["_inputs"] = TrainingInputs.read(self.dataparser.setup(), self.image_size, self.densify)

    def has_inputs(self) -> bool:
        """Whether `read_inputs` has read and nothing has taken it yet."""
        return "_inputs" in vars(self)

    def take_inputs(self) -> TrainingInputs | None:
        """What `read_inputs` has read, which is let go of here."""
        return vars(self).pop("_inputs", None)

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: config.yml holds no pixels."""
        return {name: value for name, value in vars(self).items() if name != "_inputs"}


class FVGenDataManager(FullImageDatamanager[FVGenDataset]):
    """`FullImageDatamanager` that densifies the capture while it is built.

    Views are generated only where training starts, from what its config has read; everywhere else the cache is read.
    """

    config: FVGenDataManagerConfig

    def __init__(
        self,
        config: FVGenDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        **kwargs,
    ) -> None:
        self._inputs = config.take_inputs()
        try:
            if self._inputs is not None:
                given = GivenOutputsConfig(outputs=self._inputs.training.outputs)
                super().__init__(replace(config, dataparser=given), device, test_mode, **kwargs)
            else:
                require_capture(Path(config.data or config.dataparser.data))
                super().__init__(config, device, test_mode, **kwargs)
        except InputError as error:  # ns-eval and the like come here first
            if test_mode != "inference":
                refuse(error)
            CONSOLE.print(f"[yellow]{escape(str(error))} Going on without the photos.", soft_wrap=True)
            super().__init__(replace(config, dataparser=GivenOutputsConfig()), device, test_mode, **kwargs)
        self.config, self._inputs = config, None

    def create_train_dataset(self) -> FVGenDataset:
        inputs = self._inputs
        split = CaptureSplit.of(self.train_dataparser_outputs).whole() if inputs is None else inputs.training
        if split.frames:
            split = densify(
                split,
                self.config.densify,
                max_points=self.config.max_points,
                image_size=self.config.image_size,
                capture=None if inputs is None else inputs.capture,
            )
        self.train_dataparser_outputs = split.outputs
        self.notes = split.notes if inputs is None else gathered([*split.notes, *inputs.held_out.notes])
        dataset = self._dataset(split, None if inputs is None else inputs.photos)
        self.is_photo = list(dataset.is_photo)
        self._photos = [i for i, is_photo in enumerate(dataset.is_photo) if is_photo]
        self._generated = [i for i, is_photo in enumerate(dataset.is_photo) if not is_photo]
        return dataset

    def create_eval_dataset(self) -> FVGenDataset:
        if self._inputs is not None:
            return self._dataset(self._inputs.held_out, self._inputs.held_out_photos)
        return self._dataset(CaptureSplit.read(self.dataparser, self.test_split).whole())

    def _dataset(self, split: CaptureSplit, photos: list[TrainingPhoto] | None = None) -> FVGenDataset:
        config = self.config
        weights = ViewWeights(config.covered_weight, config.hole_weight)
        image_size = config.image_size
        if isinstance(config.dataparser, FVGenDataParserConfig) and config.dataparser.downscale_factor:  # of ns-render
            image_size = max(round(image_size / config.dataparser.downscale_factor), 1)
        return FVGenDataset(split, image_size, weights, dict(enumerate(photos or [])))

    def read_views(self, views: GeneratedFrames) -> tuple[list[dict[str, Any]], Cameras]:
        """Generated views, at least one and in the dataparser's frame, as `add_views` takes them."""
        assert views.cameras is not None
        count = len(views.frames)
        metadata = {"is_photo": [False] * count, "confidence_filenames": views.confidences}
        outputs = DataparserOutputs([frame.photo for frame in views.frames], views.cameras, metadata=metadata)
        dataset = self._dataset(CaptureSplit.of(outputs))
        return [dataset.get_data(i, self.config.cache_images_type) for i in range(count)], dataset.cameras

    def add_views(self, batches: list[dict[str, Any]], cameras: Cameras) -> None:
        """Train on further generated views, which `read_views` has read, from the next step on; while no step runs."""
        images, _ = self.cached_train, self.cached_eval  # loading either sets the cameras anew
        for batch in batches:
            self._generated.append(len(images))
            self.is_photo.append(False)
            images.append(batch | {"image_idx": len(images)})
        self.train_cameras = concatenate(self.train_cameras.to("cpu"), cameras.to("cpu")).to(self.device)

    def replace_views(self, numbers: list[int], batches: list[dict[str, Any]]) -> None:
        """Train on other pictures from the same cameras in place of some generated views; while no step runs."""
        images, _ = self.cached_train, self.cached_eval
        for number, batch in zip(numbers, batches, strict=True):
            index = self._generated[number]
            images[index] = batch | {"image_idx": index}

    def drop_views(self, count: int) -> None:
        """No longer train on the last ``count`` generated views that were added; while no step runs."""
        left = len(self.cached_train) - count
        del self.cached_train[left:], self.is_photo[left:]
        self._generated = [index for index in self._generated if index < left]
        self.train_cameras = self.train_cameras[:left]

    def _load_images(self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]) -> list[dict]:
        try:
            # without a GPU both names mean this machine's memory, and Nerfstudio's "cpu" would ask a driver to pin it
            return super()._load_images(split, cache_images_device if is_gpu(self.device) else "gpu")
        except InputError as error:  # a photo that was damaged after training
            refuse(error)

    def sample_train_cameras(self) -> list[int]:
        """Nerfstudio's order of photos, which `next_train` has no use for."""
        return [0]

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


def require_capture(path: Path) -> None:
    """Refuse a finished run whose capture is not where it was.

    Raises:
        InputError: saying how to name its new place.
    """
    if not path.exists():
        moved = (
            "If it has moved, write its new path into the line that begins with 'data:' in the run's config.yml;"
            " ns-render dataset also takes --data PATH."
        )
        raise InputError(
            complaint("--data", "be the capture that the splat was trained on", f"{path}, where nothing is", moved)
        )
