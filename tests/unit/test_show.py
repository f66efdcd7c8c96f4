from htcl.search.query import Found
from htcl.show import show_found


def test_brackets_in_titles_are_shown_and_are_no_markup(capsys):
    song = Found("t[b]1", "Intro [live]", "[/] Band", "jazz", ("[bold]", "cool"), 0.5)
    show_found('songs for "[red]"', [song])
    shown = capsys.readouterr().out
    for text in ("t[b]1", "Intro [live]", "[/] Band", "[bold], cool", 'songs for "[red]"', "0.500"):
        assert text in shown
