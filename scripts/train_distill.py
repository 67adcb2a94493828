"""Train a 4-step student from a teacher, or a teacher from nothing; see --help."""

import sys

from fvgen.distillation.command import main

if __name__ == "__main__":
    sys.exit(main())
