import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.tasks import Task
from relevance.text.formatting import PairFormat
from relevance.text.titles import PROMOTIONS, without_repeats


def read(title: str) -> str:
    """Return what a model reads of a title."""
    return PairFormat().candidate_text(Task.QI, title)


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("[Free Shipping] Red Dress 2024 New, HOT SALE!", "Red Dress 2024 New"),
        ("Assorted Roses (75 Stems) Includes Free Shipping", "Assorted Roses (75 Stems)"),
        ("FREE SHIPPING! Red Dress", "Red Dress"),
        ("Red Dress - free shipping", "Red Dress"),
        ("Red Dress | New Arrival | Cotton", "Red Dress | Cotton"),
        ("Red Dress (Hot Sale, Free Shipping) Cotton", "Red Dress Cotton"),
        ("【送料無料】2024新作 ワンピース", "2024新作 ワンピース"),
        ("热卖，包邮，红鞋", "红鞋"),
        ("Robe d'été, livraison gratuite", "Robe d'été"),
        ("원피스 [무료배송] 빨강", "원피스 빨강"),
        ("فستان | شحن مجاني", "فستان"),
        ("เดรส / ส่งฟรี", "เดรส"),
        ("मुफ़्त शिपिंग! जूते", "जूते"),
    ],
)
def test_promotions_that_stand_alone_leave_titles(title: str, left: str) -> None:
    assert read(title) == left


@pytest.mark.parametrize(
    "title",
    [
        "Free Shipping Label Printer",
        'Rubber Stamp "Free Shipping"',
        "Best Seller Bookshelf",
        "Hot Sale Neon Sign, Red",
        "New Arrival Baby Shower Card",
        "Buy Now Pay Later Card Reader",
        "High Quality Street Chocolates",
        "Etiquetas envío gratis",
        "送料無料シール 100枚",
        "包邮贴纸",
        "무료배송 스티커",
        "สติ๊กเกอร์ส่งฟรี",
        "ملصق شحن مجاني",
        "Calendar 2024 New",
        "Free Shipping",
        "New Arrival (DVD)",
        "100% Brand New, Phone",
    ],
)
def test_names_and_products_are_no_promotions(title: str) -> None:
    assert read(title) == title


@pytest.mark.parametrize("phrase", PROMOTIONS)
def test_every_phrase_may_name_an_item_and_may_stand_alone(phrase: str) -> None:
    assert read(f"{phrase} sticker") == f"{phrase} sticker"
    assert read(f"sticker {phrase}") == f"sticker {phrase}"
    assert read(f"[{phrase}] sticker") == "sticker"


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("Phone Case Cover Phone Case Cover for iPhone", "Phone Case Cover for iPhone"),
        ("phone case Phone Case phone case", "phone case"),
        ("sale sale sale sale", "sale"),
        ("free shipping " * 5 + "red dress free shipping red dress", "free shipping red dress"),  # in two rounds
    ],
)
def test_stuttered_words_are_written_once(title: str, left: str) -> None:
    assert read(title) == left


@pytest.mark.parametrize(
    "title",
    [
        "Duran Duran Vinyl LP",
        "New York New York DVD",
        "Bye Bye Bye CD",
        "Chitty Chitty Bang Bang",
        "Walla Walla onion seeds",
        "La La La La La CD",
        "Sepatu anak anak",
        "4 in. x 4 in. x 4 in. x 4 in. Timber",
        "Barb x Barb x Barb Tee",
        "Heated Jacket (Jacket Only)",
        "靴 靴 靴",
    ],
)
def test_doubled_names_and_sizes_are_no_stutter(title: str) -> None:
    assert read(title) == title


PARTS = st.sampled_from(
    ["free shipping", "Hot Sale", "red", "red dress", "[", "]", "(", ")", ",", "|", " - ", "!", "送料無料"]
)


@given(st.lists(PARTS, min_size=1, max_size=9))
def test_titles_keep_all_other_words_and_never_become_empty(parts: list[str]) -> None:
    title = " ".join(parts)
    left = read(title)
    assert left.strip()
    assert left.split().count("dress") == title.split().count("dress") or left == without_repeats(left)
    assert all(word in title.split() for word in left.replace("!", " ").split() if word.isalpha())


def test_phrases_are_a_parameter_of_the_format() -> None:
    form = PairFormat(promotions=("super duper deal",))
    assert form.candidate_text(Task.QI, "Super Duper Deal! Red boots, free shipping") == "Red boots, free shipping"
    assert PairFormat(promotions=()).candidate_text(Task.QI, "Red boots, free shipping") == "Red boots, free shipping"


def test_queries_and_category_paths_keep_promotional_words() -> None:
    assert PairFormat().query_text("shoes, free shipping") == "shoes, free shipping"
    assert PairFormat().candidate_text(Task.QC, "shoes,hot sale") == "shoes > hot sale"
