"""The Nerfstudio plugin: ``ns-train fvgen-splat``."""
