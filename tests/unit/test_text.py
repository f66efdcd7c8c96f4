from htcl.text import metadata_text, text_hash

ROW = {
    "title": " So  What ",
    "artist": "Miles Davis",
    "genre": None,
    "tags": ["modal", "", None, "cool\njazz"],
    "year": 1959,
}


def test_fields_are_joined_in_the_order_asked_for():
    assert metadata_text(ROW, ["artist", "title"]) == "Miles Davis, So What"
    assert metadata_text(ROW, ["title", "artist"]) == "So What, Miles Davis"


def test_lists_are_spread_and_empty_values_passed_over():
    assert metadata_text(ROW, ["genre", "tags", "absent", "year"]) == "modal, cool jazz, 1959"
    assert metadata_text(ROW, []) == ""
    assert metadata_text({"title": "  "}, ["title"]) == ""


def test_a_corrected_title_changes_the_hash():
    assert text_hash("So What") != text_hash("So what")
    assert text_hash("So What") == text_hash("So What")
    assert len(text_hash("é")) == 16
