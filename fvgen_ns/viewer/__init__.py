"""What the plugin adds to the viewer of ``ns-train`` and ``ns-viewer``."""
