"""Photos and generated views of a capture as a Nerfstudio dataset that any splat tool can go on from."""

import sys

from fvgen_ns.generate_views import main

if __name__ == "__main__":
    sys.exit(main())
