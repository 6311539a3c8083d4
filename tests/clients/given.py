"""What a script is given, and how it tells what came of it."""

import importlib.metadata
import json
import sys

URL, LONE_URL = sys.argv[1:3]  # the second serves one model, for clients that drop the path of their base URL
GIVEN = json.loads(sys.argv[3])
QUERY, DOCUMENTS = GIVEN["query"], GIVEN["documents"]


def show(distribution, cases):
    """Print the version of a distribution and its cases."""
    print(json.dumps({"version": importlib.metadata.version(distribution), "cases": cases}))
