"""Prints what each command (a Python file and its arguments) shows with --help, as a JSON list of texts.

    python show_help.py COMMANDS_AS_JSON

All run in this process, so that what they have in common is imported once.
"""

import contextlib
import io
import json
import runpy
import sys

if __name__ == "__main__":
    shown = []
    for command in json.loads(sys.argv[1]):
        sys.argv = [*command, "--help"]
        sys.path.insert(0, command[0].rpartition("/")[0])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            runpy.run_path(command[0], run_name="__main__")
        shown.append(printed.getvalue())
    print(json.dumps(shown))
