"""Keeps secrets out of messages: API keys, and user names, passwords and queries of URLs. Knows no sources of them."""

import re

from relevance.errors import ConfigError

_HEADER_VALUE = re.compile(r"[!-~]+")
# Both take linear time, since a text may be a whole file: neither retries at a position within a word.
_USER = re.compile(r"(?<![^\s\"'/,])[^\s\"'/,]*@")  # user and password of a URL, with or without scheme
_WORD = re.compile(r"[^\s\"']+")
_SECRET_NAME = re.compile(r"api_?key|secret|passw|authori[sz]ation|bearer|credential|access_?token", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Return a text without the user names, passwords, queries and fragments of its URLs."""
    return _WORD.sub(_without_query, _USER.sub("***@", text))


def _without_query(word: re.Match[str]) -> str:
    scheme, mark, address = word[0].partition("://")
    place = min((n for n in map(address.find, "?#") if n >= 0), default=None)
    return word[0] if place is None else f"{scheme}{mark}{address[:place]}?***"


def names_a_secret(name: str) -> bool:
    """Return whether a field of this name may hold a secret, so that its value must not be shown."""
    return _SECRET_NAME.search(name) is not None


def bearer(source: str, key: str) -> dict[str, str]:
    """Return the header that carries an API key. Raises ConfigError that names the source of an invalid key."""
    if not isinstance(key, str) or not _HEADER_VALUE.fullmatch(key):
        raise ConfigError(
            f"{source} (not shown): cannot be a header value; expected printable ASCII without white space "
            "(strip the line break of a key read from a file)"
        )
    return {"Authorization": f"Bearer {key}"}
