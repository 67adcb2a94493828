"""Training clips as WebDataset shards, from posed captures or from the procedural generator.

python scripts/prepare_clips.py procedural --output clips/landscape --clips 1500
python scripts/prepare_clips.py captures --captures DL3DV-10K --output clips/dl3dv --encoding latents \\
    --model models/viewcrafter-512 --frames 16 --height 320 --width 512
"""

import sys

from fvgen.data.prepare import main

if __name__ == "__main__":
    sys.exit(main())
