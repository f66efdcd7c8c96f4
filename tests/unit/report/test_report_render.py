import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from htcl.report.data import Curve, Hit, MapPoint, QueryResult
from htcl.report.errors import Neighbours, WorstText
from htcl.report.page import ReportData
from htcl.report.render import render, render_bridge, shown_bridge

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'"


class Tags(HTMLParser):
    """Collects (tag, attributes) and checks that what opens is closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_everything_is_on_the_page(full: ReportData) -> None:
    page = render(full)
    tags = parsed(page)
    assert len(tags.named("circle")) == 2 + 2 + 1  # headline, table and card whiskers
    stored = re.search(r'id="points">(.*?)</script>', page)
    assert stored and len(json.loads(stored[1])["songs"]) == len(full.points)
    for text in (
        "nightly",
        "12\u202f345\u202f678",
        "recall@10",
        "moov atom not found",
        "c0ffee",
        "1\u202fh 02\u202fmin",
        "Sought among 20\u202f000 of 1\u202f234\u202f567 songs",
    ):
        assert text in page
    assert page.index("decode error") < page.index("no title")  # the largest first
    assert "No loss was logged in this stage" in page
    assert "1 logged value was not finite" in page
    assert "Nothing was held out for this split" in page


def test_the_report_card_is_on_the_page(full: ReportData) -> None:
    page = render(full)
    for text in (
        "3 runs over 3 worlds",
        "cold songs: stage2 wins against MFCC",
        "99 % is kept",
        "34.0\u202f%",
        "cold songs (n = 900)",
        "+0.125",
        "liked by the same listeners",
        "3.1 times the skips",
        "812",
        "by sound alone",
    ):
        assert text in page
    for kind, count in (("ours", 2), ("competitor", 1)):  # on the picture and in its key
        assert page.count(f'class="point {kind}"') == 2 * count


def test_without_a_card_the_page_says_how_to_make_one(full: ReportData) -> None:
    page = render(replace(full, card=None))
    assert "<code>htcl evaluate</code>" in page and page.count('class="point ours"') == 4


def test_the_bridge_is_a_picture_by_itself(full: ReportData) -> None:
    bridge = shown_bridge(full)
    assert bridge
    picture = ElementTree.fromstring(render_bridge(bridge))
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    for mark in bridge.marks:
        assert mark.system in texts and texts.count(str(mark.number)) == 2  # beside the point and in the key


def test_an_empty_report_says_so_in_sentences(empty: ReportData) -> None:
    page = render(empty)
    parsed(page)
    assert page.count('class="empty"') == 10


def test_a_preview_is_stored_once_and_played_where_it_belongs(full: ReportData) -> None:
    page = render(full)
    tags = parsed(page)
    assert page.count(full.previews["t1"]) == 1
    players = [attributes for attributes in tags.named("audio") if "data-track" in attributes]
    assert [player["data-track"] for player in players] == ["t1"] * 4
    assert all(player["preload"] == "none" and "controls" in player for player in players)


@pytest.mark.parametrize("which", ["full", "empty"])
def test_nothing_is_fetched(which: str, request: pytest.FixtureRequest) -> None:
    page = render(request.getfixturevalue(which))
    assert not re.search(r"https?://|@import|url\(", page)
    for _, attributes in parsed(page).found:
        assert attributes.get("src") is None
        assert (attributes.get("href") or "#").startswith(("#", "data:"))


def test_user_text_is_text(full: ReportData) -> None:
    evil = replace(
        full,
        name=EVIL,
        summary=EVIL,
        points=[MapPoint(EVIL, EVIL, EVIL, EVIL, 0, 0)],
        queries=[QueryResult("text", EVIL, [Hit(EVIL, EVIL, EVIL, EVIL, 0.5)])],
        curves=[Curve(EVIL, [1], {EVIL: [1.0]})],
        previews={EVIL: "data:audio/wav;base64,AA"},
        environment={EVIL: EVIL},
        unusual=[EVIL],
        neighbours=[Neighbours(EVIL, EVIL, EVIL, EVIL, EVIL, [Hit(EVIL, EVIL, EVIL, EVIL, 0.5)], [], 0.1, frozenset())],
        errors=[WorstText(EVIL, EVIL, EVIL, 3, 9)],
    )
    page = render(evil)
    tags = parsed(page)
    assert len(tags.named("script")) == 3
    assert tags.named("img") == []
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    stored = re.search(r'id="previews">(.*?)</script>', page)
    assert stored and json.loads(stored[1]) == evil.previews


def test_the_same_data_gives_the_same_page(full: ReportData) -> None:
    assert render(full) == render(full)


def test_a_preview_must_lie_in_the_page(full: ReportData) -> None:
    with pytest.raises(ValueError, match="t1"):
        replace(full, previews={"t1": "https://example.org/a.mp3"})


def test_a_curve_has_a_value_per_step() -> None:
    with pytest.raises(ValueError, match="2 values for 3 steps"):
        Curve("stage_1", [1, 2, 3], {"total": [1.0, 2.0]})
