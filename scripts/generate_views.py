"""Photos and generated views of a capture as a Nerfstudio dataset that any splat tool can go on from.

From Python: ``main(GenerateViews(data=.., output=..))``.
"""

import sys

from fvgen_ns.generate_views import GenerateViews
from fvgen_ns.generate_views import generate_views as main
from fvgen_ns.generate_views import main as command

__all__ = ["GenerateViews", "main"]

if __name__ == "__main__":
    sys.exit(command())
