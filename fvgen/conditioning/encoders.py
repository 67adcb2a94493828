"""The frozen towers: an image and a text become the tokens a video network attends to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.conditioning.clip_preprocess import clip_preprocess
from fvgen.conditioning.prompts import CONTEXT_LENGTH, token_ids

GREY = 0.5
"""The image that stands for no image: 0 in the [-1, 1] that ViewCrafter works in."""


class TokenEncoder:
    """CLIP tokens of images and texts. Texts and the grey image are encoded once and kept.

    Args:
        image_encoder: CLIPVisionModel, and ``image_projector``: its tokens -> context tokens. Both or neither.
        text_encoder: CLIPTextModel without its last block; None gives zero tokens for text.
        context_dim: width of the context tokens.
        text_length: how many of them are text.
        tokenizer_folder: for prompts other than ViewCrafter's (see `token_ids`).

    Raises:
        InputError: when only one of the image's two parts is given, or widths do not fit together.
    """

    def __init__(
        self,
        image_encoder: Any | None,
        image_projector: Any | None,
        text_encoder: Any | None,
        *,
        context_dim: int,
        text_length: int = CONTEXT_LENGTH,
        tokenizer_folder: Path | None = None,
    ) -> None:
        require(
            (image_encoder is None) == (image_projector is None),
            "image_encoder and image_projector",
            "come together",
            "one of them",
            "Give both, or neither.",
        )
        self.image_encoder, self.image_projector, self.text_encoder = image_encoder, image_projector, text_encoder
        self.context_dim, self.text_length, self.tokenizer_folder = context_dim, text_length, tokenizer_folder
        self._cache: dict[str, Tensor] = {}
        self._check_widths()

    def _check_widths(self) -> None:
        widths = {}
        if self.image_encoder is not None and self.image_projector is not None:
            widths["image_projector's input"] = (
                self.image_projector.config.embedding_dim,
                self.image_encoder.config.hidden_size,
            )
            widths["image_projector's output"] = (self.image_projector.config.output_dim, self.context_dim)
        if self.text_encoder is not None:
            widths["text_encoder"] = (self.text_encoder.config.hidden_size, self.context_dim)
            length = self.text_encoder.config.max_position_embeddings
            require(
                length == self.text_length == CONTEXT_LENGTH,
                "text_encoder",
                f"give {self.text_length} tokens, {CONTEXT_LENGTH} in all CLIP models",
                length,
                "Load the components of one checkpoint.",
            )
        for name, (width, expected) in widths.items():
            require(width == expected, name, f"have width {expected}", width, "Load the components of one checkpoint.")

    @property
    def has_conditions(self) -> bool:
        """Whether there is a tower at all: without one, tokens are zeros and guidance has nothing to steer by."""
        return self.image_encoder is not None or self.text_encoder is not None

    @torch.no_grad()
    def tokens(self, images: Tensor, prompt: str, device: torch.device) -> Tensor:
        """[B, N, D] float32 tokens, text then image.

        Args:
            images: [B, 3, H, W] in [0, 1], one per clip.
            prompt: the same for all clips.
            device: where to compute.
        """
        text = self._text(prompt, device).expand(len(images), -1, -1)
        if self.image_encoder is None:
            return text
        return torch.cat([text, self._image(images, device)], dim=1)

    @torch.no_grad()
    def unconditional_tokens(self, batch: int, device: torch.device) -> Tensor:
        """[B, N, D] float32 tokens of no text and a grey image."""
        text = self._text("", device)
        if self.image_encoder is not None:
            if "grey" not in self._cache:
                size = self.image_encoder.config.image_size
                self._cache["grey"] = self._image(torch.full((1, 3, size, size), GREY), device).cpu()
            text = torch.cat([text, self._cache["grey"].to(device)], dim=1)
        return text.expand(batch, -1, -1)

    def _text(self, prompt: str, device: torch.device) -> Tensor:
        if self.text_encoder is None:
            return torch.zeros(1, self.text_length, self.context_dim, device=device)
        key = f"text:{prompt}"
        if key not in self._cache:
            ids = token_ids(prompt, self.tokenizer_folder).to(device)
            words, highest = self.text_encoder.config.vocab_size, int(ids.max())
            require(
                words > highest,
                "text_encoder",
                f"know token {highest}",
                f"a vocabulary of {words}",
                "Load CLIP's own text tower.",
            )
            self._cache[key] = self.text_encoder(ids).last_hidden_state.float().cpu()
        return self._cache[key].to(device)

    def _image(self, images: Tensor, device: torch.device) -> Tensor:
        assert self.image_encoder is not None and self.image_projector is not None  # for mypy
        pixels = clip_preprocess(images.to(device), self.image_encoder.config.image_size)
        tokens = self.image_encoder(pixels.to(self.image_encoder.dtype)).last_hidden_state
        return self.image_projector(tokens.to(self.image_projector.dtype)).float()
