"""Scenes made by arithmetic, with exact depth: rooms for the demo and tests, clips for training."""
