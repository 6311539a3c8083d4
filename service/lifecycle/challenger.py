"""A model on trial beside the active one, and which requests it sees."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from service.lifecycle.shadow import Shadow
from service.scoring.served_model import ServedModel


class Mode(StrEnum):
    """What a challenger does: scores requests again and is compared, or answers a share of them."""

    SHADOW = "shadow"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Challenger:
    """A model on trial that sees a share (0 to 1) of the requests."""

    model: ServedModel
    mode: Mode
    share: float
    shadow: Shadow | None


def in_share(request_id: str, share: float) -> bool:
    """Return whether a request is in a share (0 to 1) of all requests. Equal ids give equal results in any process."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
