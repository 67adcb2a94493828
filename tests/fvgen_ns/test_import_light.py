"""Every ns-* command imports the plugin: it must cost nothing, and its libraries must be able to fail."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import importlib.metadata, json, sys
found = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **group: importlib.metadata.EntryPoints(())  # Nerfstudio without plugins
import nerfstudio.configs.method_configs
importlib.metadata.entry_points = found
assert "fvgen_ns" not in sys.modules
before = set(sys.modules)
import fvgen_ns.fvgen_config
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""


def test_the_plugin_adds_nothing_heavy_to_nerfstudios_commands():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    added = json.loads(done.stdout.splitlines()[-1])
    assert "fvgen_ns" in added
    assert not set(added) & {"numba", "diffusers", "transformers", "scipy", "cv2", "accelerate", "matplotlib", "av"}
