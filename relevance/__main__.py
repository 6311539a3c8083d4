"""`python -m relevance`: the same as the command `relevance`."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    # `python -m` looks for modules in the current folder first, where a folder `service` or `export` may be the user's.
    if not sys.flags.safe_path and Path.cwd() != PROJECT:
        del sys.path[0]

    from relevance.cli import main

    main()
