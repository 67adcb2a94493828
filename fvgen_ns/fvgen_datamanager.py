"""Photos and generated views, mixed for training; evaluation never sees a generated view."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from fvgen.checks import require
from fvgen_ns.densify import DensifyConfig, densify
from fvgen_ns.frames import CaptureSplit
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.fvgen_dataset import FVGenDataset, ViewWeights


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

    def check_inputs(self) -> None:
        """Read the capture's description, look for the generator's weights, and refuse what cannot be used.

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
        training = CaptureSplit.read(parser, "train")
        training.check_training()
        CaptureSplit.read(parser, "val").check_held_out()
        self.densify.check(training)


class FVGenDataManager(FullImageDatamanager[FVGenDataset]):
    """`FullImageDatamanager` that densifies the capture while it is built.

    Views are generated only where training starts (``test_mode == "val"``); everywhere else the cache is read.
    """

    config: FVGenDataManagerConfig

    def create_train_dataset(self) -> FVGenDataset:
        self.train_dataparser_outputs = densify(
            CaptureSplit.of(self.train_dataparser_outputs),
            self.config.densify,
            max_points=self.config.max_points,
            image_size=self.config.image_size,
            generate=self.test_mode == "val",
        )
        dataset = self._dataset(self.train_dataparser_outputs)
        self.is_photo = dataset.is_photo
        self.notes: list[str] = self.train_dataparser_outputs.metadata.get("notes", [])
        self._photos = [i for i, is_photo in enumerate(dataset.is_photo) if is_photo]
        self._generated = [i for i, is_photo in enumerate(dataset.is_photo) if not is_photo]
        return dataset

    def create_eval_dataset(self) -> FVGenDataset:
        return self._dataset(self.dataparser.get_dataparser_outputs(split=self.test_split))

    def _dataset(self, outputs: DataparserOutputs) -> FVGenDataset:
        weights = ViewWeights(self.config.covered_weight, self.config.hole_weight)
        return FVGenDataset(outputs, self.config.image_size, weights)

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
