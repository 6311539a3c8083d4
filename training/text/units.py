"""Spellings of units of measure over languages, as shop queries have them."""

# A unit behind a number must come back in one of its spellings.
_UNITS = [
    "mm|millimeter|millimetre|milímetros|millimètres|milimetry|ملم|مم|ミリ|มม|밀리",
    "cm|centimeter|centimetre|centímetros|zentimeter|centimetri|سم|センチ|ซม|센치|센티",
    "kg|kilo|kilos|kilogramm|kilogram|كجم|كغ|كغم|كيلو|キロ|กก|킬로",
    "ml|milliliter|millilitre|mililitros|مل|ミリリットル|มล",
    "l|liter|litre|litres|litros|litro|litri|litrów|litry|لتر|リットル|ลิตร|리터",
    "g|gr|gramm|gramm|gramos|grammes|grammi|gramów|غرام|جرام|グラム|กรัม|그램",
    "ft|feet|foot|fuß|fuss|pieds|pied|pies|pie|piedi|stóp|stopy|pés|قدم|أقدام|フィート|フート|ฟุต|피트",
    "in|inch|inches|zoll|pouces|pouce|po|pulgadas|pulgada|pollici|cali|calowy|calowa|calowe|polegadas|polegada|بوصة|إنش|انش|インチ|นิ้ว|인치|型",
    "v|volt|volts|voltios|فولت|ボルト|โวลต์|볼트",
    "w|watt|watts|vatios|watów|واط|وات|ワット|วัตต์|와트",
    "mah|مللي أمبير|ملي أمبير|مللي امبير|ミリアンペア",
    "gb|go|giga|gigabyte|جيجا|جيجابايت|غيغابايت|ギガ",
    "tb|to|terabyte|تيرا|تيرابايت|テラ",
    "oz|ounce|ounces|unze|unzen|onces|onzas|once|uncji|uncje|onças|أونصة|اونصة|オンス|온스",
    "ct|carat|carats|karat|quilates|quilate|quilates|carati|karatów|karaty|قيراط|カラット|캐럿",
    "k|kt|karat|karats|quilates|carats|carati|karatów|قيراط|عيار|金|กะรัต|캐럿",
    "lb|lbs|pound|pounds|pfund|livres|libras|libbre|funtów|funty|رطل|باوند|ポンド|파운드",
]
SPELLINGS = {spelling: frozenset(line.split("|")) for line in _UNITS for spelling in line.split("|")}
