"""Removes words that do not describe the item from a title: stand-alone promotions, and repeated words.

Knows words only; knows no rows or tasks. Both rules are narrow, since words that name an item must stay:
`Free Shipping Label Printer`, `Duran Duran Vinyl LP`. Part of the format (`relevance.text.formatting`).
"""

import re
import unicodedata

# Phrases that sell and do not describe the item. None may hold a year or a condition (`brand new`): those are facts.
PROMOTIONS = (
    *("free shipping", "includes free shipping", "with free shipping", "free delivery", "fast shipping"),
    *("fast delivery", "hot sale", "hot selling", "best seller", "best selling", "best price", "big sale"),
    *("flash sale", "clearance sale", "limited time offer", "special offer", "on sale now", "buy now"),
    *("new arrival", "new arrivals", "high quality"),
    *("envío gratis", "envio gratis", "envío gratuito", "envío rápido", "oferta especial", "gran venta"),
    *("venta caliente", "más vendido", "frete grátis", "frete gratis", "envio grátis", "venda quente", "mais vendido"),
    *("livraison gratuite", "livraison offerte", "livraison rapide", "offre spéciale", "vente chaude"),
    *("meilleure vente", "spedizione gratuita", "spedizione gratis", "offerta speciale", "vendita calda"),
    *("kostenloser versand", "versandkostenfrei", "gratis versand", "sonderangebot", "schneller versand"),
    *("heißer verkauf", "gratis verzending", "darmowa wysyłka", "darmowa dostawa", "wysyłka gratis"),
    *("gorąca sprzedaż", "شحن مجاني", "توصيل مجاني", "عرض خاص", "الأكثر مبيعا"),
    *("무료배송", "무료 배송", "당일발송", "특가", "핫 세일"),
    *("送料無料", "即日発送", "ホット販売", "大人気", "期間限定セール", "包邮", "包郵", "热卖", "熱賣"),
    *("ส่งฟรี", "จัดส่งฟรี", "สินค้าขายดี", "ลดราคาพิเศษ"),
    *("miễn phí vận chuyển", "miễn phí ship", "freeship", "bán chạy nhất"),
    *("gratis ongkir", "bebas ongkir", "promo murah", "produk terlaris", "ücretsiz kargo", "kargo bedava"),
    *("бесплатная доставка", "горячая распродажа", "मुफ़्त शिपिंग", "फ्री शिपिंग"),
)

_OPENING, _CLOSING = "([{【〔", ")]}】〕"
_SIGNS = r"|•·!;,、。*★☆♥~/" + "\u2600-\u27bf\U0001f300-\U0001faff\ufe0f"
# Separators of a title's parts, also a hyphen between spaces and a full stop before one. Not quotation marks:
# `Stamp "Free Shipping"`.
_PARTING = _SIGNS + re.escape(_OPENING + _CLOSING)
_PART = re.compile(rf"((?:\s*(?:[{_PARTING}]|(?<=\s)[-–—](?=\s)|\.(?=\s|$)))+\s*)")
_ROUGHLY = re.compile(rf"[{_PARTING}\-–—.]")  # a superset of the separators, which is fast to match
_LEFT_OVER = " -–—|•·;,、~/"

_MIN_TIMES = {4: 2, 3: 2, 2: 3, 1: 4}  # by number of words: how often a phrase must be repeated
_MIN_EXTRA_WORDS = min(words * (times - 1) for words, times in _MIN_TIMES.items())
_MIN_WORD_LENGTH = 4
_MAX_ROUNDS = 8  # bounds the time that a hostile title takes


def without_promotions(title: str, phrases: frozenset[str]) -> str:
    """Return the title without stand-alone promotional phrases (`phrases`, case folded).

    A phrase stands alone if it is the whole text in brackets, between two separators such as `|`, `,` and `!`, or
    between a separator and an end of the title. Among other words, in quotation marks or before a bracket it may name
    the item. A title never becomes empty.
    """
    if phrases.isdisjoint(map(str.strip, _ROUGHLY.split(title.casefold()))):
        return title
    left = _joined(_PART.split(title), phrases)
    return left if any(map(str.isalpha, left)) else title


def without_repeats(title: str) -> str:
    """Return the title with immediately repeated phrases written once.

    A phrase of three or four words counts as repeated from twice on, one of two words from three times, a word from
    four times. Fewer may be a name: `Duran Duran`, `New York New York`, `Bye Bye Bye`. So may a phrase with a digit,
    with a sign or of short words only: `4 in. x 4 in.`, `La La La La`. What is left after one round may repeat again,
    so rounds go on until nothing changes.
    """
    for _ in range(_MAX_ROUNDS):
        before, title = title, _repeats_folded(title)
        if title == before:
            break
    return title


def _repeats_folded(title: str) -> str:
    keys = title.casefold().split()
    if len(keys) - len(set(keys)) < _MIN_EXTRA_WORDS:
        return title
    kept: list[str] = []
    words, keys = title.split()[::-1], keys[::-1]  # reversed, so that removing the next words moves no others
    while words:
        for length in _MIN_TIMES:
            if keys[-1 - length : -length] == keys[-1:] and _fold(words, keys, length):
                break
        kept.append(words.pop())
        keys.pop()
    return " ".join(kept)


def _fold(words: list[str], keys: list[str], length: int) -> bool:
    """Remove the repetitions of the next `length` words, if they are repeated; return whether they were."""
    if not _is_plain(keys[-length:]):  # first, since counting may go over all of a long text
        return False
    times = _times(keys, length)
    if times < _MIN_TIMES[length]:
        return False
    del words[-length * times : -length], keys[-length * times : -length]
    return True


def _joined(parts: list[str], phrases: frozenset[str]) -> str:
    """Join the parts (even places) that are no phrase with the separators (odd places) that stay between them."""
    text, separator, dropped = "", "", False
    for place in range(0, len(parts), 2):
        after = parts[place + 1] if place + 1 < len(parts) else ""
        if parts[place].casefold() in phrases and after.strip()[:1] not in tuple(_OPENING):
            separator, dropped = _closed_up(separator, after), True
            continue
        text += separator + parts[place]
        separator = after
    text = " ".join((text + separator).split())
    return text.strip(_LEFT_OVER).removeprefix("!").lstrip() if dropped else text


def _closed_up(before: str, after: str) -> str:
    """Return the separator between the neighbours of a part that was removed from between `before` and `after`."""
    opened, closed = before.rstrip(), after.lstrip()
    if opened and closed and opened[-1] in _OPENING and closed[0] == _CLOSING[_OPENING.index(opened[-1])]:
        return f"{opened[:-1]} {closed[1:]}"
    return f"{before} {''.join(c for c in after if c in _OPENING + _CLOSING)} "


def _times(keys: list[str], length: int) -> int:
    """Return how often the last `length` words are repeated at the end."""
    times = 1
    while keys[-length * (times + 1) : -length * times] == keys[-length:]:
        times += 1
    return times


def _is_plain(phrase: list[str]) -> bool:
    """Return whether a phrase has only letters and marks, and at least one word that is not short."""
    plain = all(len(word) > 1 and not any(unicodedata.category(c)[0] in "NPS" for c in word) for word in phrase)
    return plain and any(len(word) >= _MIN_WORD_LENGTH for word in phrase)
