"""One drawing process of :mod:`vrag_env.corpus.generate.wide.world`.

Reads one JSON object from standard input (the dials, the directory, the numbers of the families to draw) and writes
one per family to standard output: ``{"done": family}``, or ``{"error": reason}`` and ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from vrag_env.corpus.generate.wide.dials import WorldDials
from vrag_env.corpus.generate.wide.world import draw_into
from vrag_env.errors import VRAGError


def main() -> None:
    """Draw what the first line of standard input asks for."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    dials = WorldDials.read(json.loads(order["dials"])["dials"])
    try:
        for family in order["families"]:
            draw_into(dials, Path(order["directory"]), family)
            print(json.dumps({"done": family}), flush=True)
    except BrokenPipeError:
        os._exit(1)  # the main process is gone: nobody is left to tell
    except (VRAGError, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)


def _end_with_parent() -> None:
    """End at once when the main process closes the pipe, or the system does because it was killed."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
