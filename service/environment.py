"""Names of environment variables: which of them look like settings but are none. Knows no values."""

import difflib
import re
from collections.abc import Iterable

from service.settings import Settings

# Kubernetes sets variables for each service of a namespace; those of a service called `relevance` look like ours.
SERVICE_LINK = re.compile(r"RELEVANCE_(SERVICE_(HOST|PORT\w*)|PORT|PORT_\d+_(TCP|UDP|SCTP)\w*)")
OF_TRAINING = "RELEVANCE_CACHE"  # the folder of unpacked encoders


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Return the names of variables that look like settings but are none; those of Kubernetes are left out."""
    known = {f"RELEVANCE_{name.upper()}" for name in Settings.model_fields} | {OF_TRAINING}
    ours = (name for name in environment if name.upper().startswith("RELEVANCE_"))
    return sorted(name for name in ours if name.upper() not in known and not SERVICE_LINK.fullmatch(name.upper()))


def suggested(variable: str) -> str:
    """Return the settings whose names are like an unknown variable, as the end of a message; empty where none is."""
    known = [f"RELEVANCE_{name.upper()}" for name in Settings.model_fields]
    found = difflib.get_close_matches(variable.upper(), known, n=2, cutoff=0.8)
    return f"; did you mean {' or '.join(found)}?" if found else ""
