"""Photos and generated views of a capture as a Nerfstudio dataset that any splat tool can go on from."""

from __future__ import annotations

import sys

import tyro

from fvgen.checks import InputError
from fvgen_ns.generate_views import GenerateViews, generate_views

if __name__ == "__main__":
    try:
        generate_views(tyro.cli(GenerateViews))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
