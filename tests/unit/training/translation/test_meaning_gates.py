"""What the gates take for another meaning: numbers, signs, numerals, units and currencies, in many notations."""

import pytest

from training.translation.gates import Candidate, Gates
from training.translation.options import GateOptions


def reason(source, translation, target="de"):
    gates = Gates(GateOptions(language=False), [("cup", "en")], [target], None)
    return gates.judge([Candidate(source, "en", translation, target)], lambda *texts: {})[0].reason


@pytest.mark.parametrize(
    ("source", "translation", "target"),
    [
        ("5 m cable", "kabel 5 m", "de"),
        ("5m hdmi cable", "hdmi ケーブル 5メートル", "ja"),
        ("rug 10 cm", "10cmラグ", "ja"),
        ("ラグ 10cm幅", "rug 10 cm", "en"),
        ("24寸显示器", "24 inch monitor", "en"),
        ("2升级版", "2 upgrade", "en"),  # not two litres
        ("10 см ткань", "10 cm fabric", "en"),
        ("1 кВт", "1 kw", "en"),
        ("3ct moissanite ring", "خاتم مويسانيت 3 قيراط", "ar"),
        ('24" tv', "24 zoll fernseher", "de"),
        ("24 inch tv", '24" fernseher', "de"),
        ("24 inch tv", "24″ fernseher", "de"),
        ("5'6\" ladder", "leiter 5 ft 6 in", "de"),
        ('"iphone 15" case', "iphone 15 hülle", "de"),  # the quotes are no inches
        ("3 in 1 jacket", "chaqueta 3 en 1", "es"),
        ("2 in 1 laptop", "2 w 1 laptop", "pl"),
        ("5 bis 7 jahre", "5 to 7 years", "en"),
        ("rocky ii", "rocky 2", "de"),
        ("ロッキー Ⅲ", "rocky 3", "en"),
        ("louis xvi", "ludwig xvi", "de"),
        ("iv bag", "infusionsbeutel", "de"),
        ("-2.50 contact lenses", "kontaktlinsen −2,50", "de"),
        ("5 -7 years", "5-7 jahre", "de"),
        ("usb-3 hub", "usb 3 hub", "de"),
        ("1,000 piece puzzle", "puzzle 1.000 teile", "de"),
        ("t&#45;shirt", "t-shirt", "de"),
        ("5 &frac12; inch", "5,5 zoll", "de"),
        ("screws 100&nbsp;mm", "schrauben 100 mm", "de"),
        ("$20 gift card", "20 dollar geschenkkarte", "de"),
    ],
)
def test_another_notation_is_the_same(source, translation, target):
    assert reason(source, translation, target) is None


@pytest.mark.parametrize(
    ("source", "translation", "expected"),
    [
        ("5m cable", "5mm kabel", "units"),
        ("5 m cable", "5 km kabel", "units"),
        ("100 mg melatonin", "100 g melatonin", "units"),
        ("2 kw heater", "2 w heizung", "units"),
        ("3 ghz cpu", "3 mhz cpu", "units"),
        ("5 кг", "5 g", "units"),
        ('24" tv', "24 cm fernseher", "units"),
        ("5' ladder", "5 zoll leiter", "units"),
        ("size 10 shoes", "10 cm schuhe", "units"),
        ("50% off", "50 kg", "units"),
        ("£20 gift card", "$20 gift card", "units"),
        ("final fantasy VII", "final fantasy VIII", "digits"),
        ("rocky ii", "rocky iii", "digits"),
        ("rocky ii", "rocky", "digits"),
        ("rocky", "rocky iii", "digits"),
        ("ロッキー Ⅲ", "rocky 2", "digits"),
        ("-2.50 contact lenses", "kontaktlinsen +2,50", "digits"),
        ("+1.5 reading glasses", "lesebrille -1,5", "digits"),
        ("1,000 piece puzzle", "puzzle 1 teil", "digits"),
        ("١٢ بوصة", "21 inch", "digits"),
    ],
)
def test_another_number_or_unit_is_rejected(source, translation, expected):
    assert reason(source, translation) == expected
