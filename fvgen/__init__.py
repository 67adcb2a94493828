"""FVGen: views between sparse photos from a few-step video diffusion model, and the trainer that distils it."""

__version__ = "0.1.0"
