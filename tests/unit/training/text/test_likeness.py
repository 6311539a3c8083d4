from training.text.likeness import bigram_f1


def test_likeness_is_symmetric():
    assert bigram_f1("red cup", "red cup") == 1.0
    assert bigram_f1("red cup", "red cups") == bigram_f1("red cups", "red cup") < 1.0
    assert bigram_f1("", "") == 1.0
