from segqa.data.subsets import spread


def test_items_are_taken_from_the_first_to_the_last_in_even_steps():
    assert spread(list("abcdefghi"), 3) == ["a", "e", "i"]
    assert spread(range(10), 4) == [0, 3, 6, 9]


def test_one_of_many_is_the_first():
    assert spread(["a", "b", "c"], 1) == ["a"]


def test_all_are_taken_when_there_are_not_more():
    assert spread(["a", "b"], 2) == spread(["a", "b"], 5) == spread(["a", "b"], None) == ["a", "b"]
    assert spread([], 3) == []
