"""What every benchmark's JSON carries, and how it is written."""

from fvgen.evaluation.machine import machine, write_json

__all__ = ["machine", "write_json"]
