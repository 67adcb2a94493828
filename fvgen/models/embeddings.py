"""What the network knows about a clip as a whole: the noise level and the frame rate."""

from __future__ import annotations

from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn


class TimeAndFpsEmbedding(nn.Module):
    """Noise level plus frame rate as one vector per clip.

    Both numbers go through the same sinusoids, ``[cos | sin]`` with frequencies ``10000 ** (-i / (channels / 2))``, and
    through a two-layer perceptron each; the results are added.

    Args:
        channels: Width of the sinusoidal code.
        embedding_channels: Width of the result.
        fps_condition: Whether the frame rate is an input; without it only the noise level counts.
    """

    def __init__(self, channels: int, embedding_channels: int, fps_condition: bool) -> None:
        super().__init__()
        self.channels = channels
        self.time_embedding = TimestepEmbedding(channels, embedding_channels)
        self.fps_embedding = TimestepEmbedding(channels, embedding_channels) if fps_condition else None
        if self.fps_embedding is not None:
            # Fine-tuning from a model without a frame rate starts as that model.
            nn.init.zeros_(self.fps_embedding.linear_2.weight)
            nn.init.zeros_(self.fps_embedding.linear_2.bias)

    def forward(self, timestep: Tensor, fps: Tensor, like: Tensor) -> Tensor:
        """The embedding [B, E] of ``timestep`` [B] and ``fps`` [B], in the dtype of ``like``."""
        embedding = self.time_embedding(self._sinusoids(timestep, like))
        if self.fps_embedding is not None:
            embedding = embedding + self.fps_embedding(self._sinusoids(fps, like))
        return embedding

    def _sinusoids(self, values: Tensor, like: Tensor) -> Tensor:
        # The angles reach 1000 rad, where half precision has no digits left: always float32, then the network's dtype.
        code = get_timestep_embedding(values, self.channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        return code.to(like.dtype)
