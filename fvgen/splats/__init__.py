"""Gaussian splats as data: turned, cropped, and written to files."""
