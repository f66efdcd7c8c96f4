"""`htcl explore` as a visitor has it: the real server over a published set, in headless Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pytest

from htcl.artifacts import ArtifactStore
from htcl.audio.paths import resolve_audio_path
from htcl.champion import require_champion
from htcl.ingest.catalog import read_catalog
from htcl.plan import audio_root

from .browser import SCHEMES, SIZES, Seen, chromium, opened
from .harness import BIN, Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MAP_PADDING, MAP_BUTTONS = 18, 36
SHOTS = os.environ.get("HTCL_SHOTS")


@dataclass
class Server:
    """A running server; `log` is where it writes."""

    url: str
    log: Path
    run: Run


@pytest.fixture(scope="module")
def server(demo_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("explore") / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(BIN / "htcl"), "explore", "--config", str(demo_run.path), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout
            told = re.search(r"open (http://127\.0\.0\.1:\d+) in a browser", process.stdout.readline())
            assert told, log.read_text()
            yield Server(told[1], log, demo_run)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(30)
    assert code == 0, log.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def seen(browser: Browser, server: Server) -> Iterator[Seen]:
    with opened(browser, server.url) as page:
        page.page.wait_for_selector("#drawing", state="detached")
        yield page


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: a temporary folder, or HTCL_SHOTS."""
    return Path(SHOTS) if SHOTS else tmp_path_factory.mktemp("shots")


def ask(page: Page, words: str) -> None:
    page.fill("#words", words)
    page.press("#words", "Enter")
    page.wait_for_function("words => document.querySelector('#heading').textContent === `“${words}”`", arg=words)


def titles(page: Page) -> list[str]:
    return page.locator("#hits .title").all_inner_texts()


def cosines(page: Page) -> Any:
    """Both cosines of each hit, as they are written [hits, 2]."""
    texts = page.locator("#hits .bars .num").all_inner_texts()
    return np.array([float(text.replace("−", "-")) for text in texts]).reshape(-1, 2)


def slide(page: Page, percent: int) -> None:
    with page.expect_response("**/api/search"):
        page.locator("#weight").fill(str(percent))
    page.wait_for_timeout(100)


def sounds(page: Page) -> None:
    """Wait until the player has come on by a bit."""
    page.wait_for_function("() => { const {currentTime, paused} = audio; return currentTime > 0.3 && !paused; }")


def audio_file(run: Run, track: str) -> Path:
    """The file of a song."""
    key = require_champion(run.config.workspace).catalog
    row = (
        read_catalog(ArtifactStore(run.config.workspace).fetch("catalog", key))
        .filter(pc.field("track_id") == track)
        .to_pylist()[0]
    )
    return Path(resolve_audio_path(audio_root(run.config), row["audio_path"]))


def write_wav(path: Path, seconds: float = 4.0) -> Path:
    time = np.arange(round(seconds * 16_000)) / 16_000
    samples = (0.4 * np.sin(2 * np.pi * 330 * time) * (np.sin(12 * time) > 0) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def point_on_map(page: Page, index: int) -> dict[str, float]:
    """Where a point of the whole map is drawn, in pixels of its canvas."""
    return page.evaluate(  # type: ignore[no-any-return]
        """async ([index, padding, buttons]) => {
            const told = await (await fetch("/api/map")).json(), box = document.getElementById("map");
            const bytes = (axis) => Uint8Array.from(atob(told[axis]), (letter) => letter.charCodeAt(0));
            const read = (axis) => new Uint16Array(bytes(axis).buffer)[index];
            const at = (value, size) => size / 2 + (value / 65535 - 0.5) * (size - 2 * padding);
            return {x: at(read("x"), box.clientWidth - buttons), y: at(read("y"), box.clientHeight)};
        }""",
        [index, MAP_PADDING, MAP_BUTTONS],
    )


def songs_on_map(page: Page) -> list[list[str]]:
    return page.evaluate("async () => (await (await fetch('/api/map')).json()).songs")  # type: ignore[no-any-return]


def test_words_find_songs_and_the_slider_ranks_them_by_either_space(seen: Seen) -> None:
    page = seen.page
    assert page.locator("#hits li").count() == 0 and page.locator("#welcome").is_visible()
    ask(page, "slow sad waltz on a harp")
    assert page.locator("#hits li").count() == 20 and "20 songs, nearest first" in page.inner_text("#said")
    for percent, column in ((0, 0), (100, 1)):
        slide(page, percent)
        ranked = cosines(page)[:, column]
        assert (np.diff(ranked) <= 0).all(), ranked
    assert f"taste={100}" in page.url and "q=slow+sad+waltz" in page.url
    page.click("#more")
    page.wait_for_function("() => document.querySelectorAll('#hits li').length === 40")
    seen.check()


def test_more_like_this_asks_about_the_song_and_back_returns(seen: Seen) -> None:
    page = seen.page
    ask(page, "calm dreamy ambient synth")
    before = titles(page)
    page.locator("#hits .like").nth(1).click()
    page.wait_for_function("title => document.querySelector('#heading').textContent === `Like ${title}`", arg=before[1])
    assert "song=" in page.url and len(titles(page)) == 20
    assert page.evaluate("document.activeElement.id") == "heading"
    page.go_back()
    page.wait_for_function("() => document.querySelector('#heading').textContent.startsWith('“calm')")
    assert titles(page) == before and page.input_value("#words") == "calm dreamy ambient synth"
    page.go_forward()
    page.reload()
    page.wait_for_function("title => document.querySelector('#heading').textContent === `Like ${title}`", arg=before[1])
    seen.check()


def test_a_name_is_suggested_while_it_is_typed(seen: Seen) -> None:
    page = seen.page
    track, title, *_ = songs_on_map(page)[5]
    page.locator("#words").press_sequentially(title[:-1], delay=5)
    page.wait_for_selector("#suggestions [role=option]")
    assert title in page.locator("#suggestions b").all_inner_texts()
    page.press("#words", "ArrowDown")
    chosen = page.get_attribute("#words", "aria-activedescendant")
    name = page.inner_text(f"#{chosen} b")
    page.press("#words", "Enter")
    page.wait_for_function("name => document.querySelector('#heading').textContent === `Like ${name}`", arg=name)
    assert not page.locator("#suggestions").is_visible() and track
    seen.check()


def test_a_sound_file_finds_songs_that_sound_like_it(seen: Seen, server: Server, tmp_path: Path) -> None:
    page = seen.page
    page.set_input_files("#file", write_wav(tmp_path / "beeps.wav"))
    page.wait_for_function("() => document.querySelector('#heading').textContent === 'Like beeps.wav'")
    assert page.locator("#hits li").count() == 20 and "4 seconds" in page.inner_text("#about")
    page.click("#about .play")
    sounds(page)
    track, title, *_ = songs_on_map(page)[0]
    page.set_input_files("#file", audio_file(server.run, track))
    page.wait_for_function("() => document.querySelector('#heading').textContent.endsWith('.flac')")
    assert titles(page)[0] == title and (cosines(page)[0] > 0.98).all()
    seen.check()


def test_files_that_are_no_sounds_are_refused_in_a_sentence(browser: Browser, server: Server, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("This is no sound. " * 100)
    (tmp_path / "large.wav").write_bytes(bytes(51_000_000))
    with opened(browser, server.url) as seen:
        page = seen.page
        for path, sentence in (
            (tmp_path / "text.wav", "not a sound file"),
            (write_wav(tmp_path / "short.wav", 0.5), "too short"),
            (tmp_path / "large.wav", "larger than 50 MB"),
        ):
            page.set_input_files("#file", path)
            page.wait_for_function("part => document.querySelector('#trouble').innerText.includes(part)", arg=sentence)
        page.press("#words", "Enter")
        assert "Say in a few words" in page.inner_text("#trouble")
        page.goto(f"{server.url}/?song=T00x003")
        page.wait_for_function("() => document.querySelector('#trouble').innerText.includes('Did you mean')")
        # The browser itself writes down that the server refused.
        assert all("Failed to load resource" in line for line in seen.complaints) and seen.elsewhere == []


def test_filters_hold_for_hits_and_map_and_are_cleared(seen: Seen) -> None:
    page = seen.page
    ask(page, "fast and happy")
    everything = titles(page)
    genre = page.locator("[name=genre] option").nth(1).get_attribute("value")
    page.select_option("[name=genre]", genre)
    page.wait_for_function("() => document.querySelector('#said').textContent.includes('that fit the filters')")
    assert set(page.locator("#hits .by span").all_inner_texts()) == {genre}
    assert f"genre={genre}" in page.url and " of " in page.inner_text("#matching")
    page.fill("[name=artist]", "nobody of that name")
    page.wait_for_function("() => document.querySelector('#said').textContent.includes('No song fits')")
    assert page.locator("#hits li").count() == 0
    page.click("#clear")
    page.wait_for_function("() => document.querySelectorAll('#hits li').length === 20")
    assert titles(page) == everything and "genre" not in page.url and page.locator("#clear").is_disabled()
    seen.check()


def test_play_sounds_and_only_one_song_at_a_time(seen: Seen) -> None:
    page = seen.page
    ask(page, "heavy energetic rock")
    plays = page.locator("#hits .play")
    plays.nth(0).click()
    sounds(page)
    assert plays.nth(0).get_attribute("aria-label") == f"Pause {titles(page)[0]}"
    plays.nth(1).click()
    page.wait_for_function("title => document.querySelector('#now-title').textContent === title", arg=titles(page)[1])
    page.wait_for_function(
        "() => document.querySelector('#audio').currentTime > 0.3 && !document.querySelector('#audio').paused"
    )
    assert page.locator("audio").count() == 1 and page.locator("#hits .play.sounds").count() == 1
    page.locator("#seek").fill("100")
    page.wait_for_function(
        "() => document.querySelector('#audio').currentTime > 0.45 * document.querySelector('#audio').duration"
    )
    page.click("#toggle")
    page.wait_for_function("() => document.querySelector('#audio').paused")
    seen.check()


def test_a_song_whose_file_is_gone_says_so(browser: Browser, server: Server) -> None:
    with opened(browser, server.url) as seen:
        page = seen.page
        ask(page, "slow")
        asked = {"kind": "words", "value": "slow", "k": 1}
        (first,) = page.request.post(f"{server.url}/api/search", data=asked).json()["hits"]
        path = audio_file(server.run, first["song"]["track_id"])
        aside = path.rename(path.with_suffix(".aside"))
        try:
            page.locator("#hits .play").first.click()
            page.wait_for_function(
                "() => document.querySelector('#now-trouble').textContent === 'Its audio is not there.'"
            )
            page.reload()
            page.wait_for_selector("#hits .gone:visible")
            assert page.locator("#hits li").first.locator(".gone").inner_text() == "its audio is not there"
            assert not page.locator("#hits li").first.locator(".play").is_visible()
        finally:
            aside.rename(path)


def test_the_map_answers_the_pointer(seen: Seen) -> None:
    page, canvas = seen.page, seen.page.locator("#map")
    songs, place = songs_on_map(page), point_on_map(page, 7)
    canvas.hover(position=place)  # type: ignore[arg-type]
    page.wait_for_selector(".catalog-map-tip:visible")
    canvas.click(position=place)  # type: ignore[arg-type]
    sounds(page)
    chosen = page.inner_text("#now-title")
    assert chosen == page.inner_text(".catalog-map-tip b") and chosen in [song[1] for song in songs]
    page.click("#now-like")
    page.wait_for_function("title => document.querySelector('#heading').textContent === `Like ${title}`", arg=chosen)
    assert page.locator("#hits li").count() == 20
    seen.check()


def picture(page: Page) -> str:
    page.wait_for_timeout(500)
    return page.evaluate("document.getElementById('map').toDataURL()")  # type: ignore[no-any-return]


def test_the_map_moves_by_wheel_drag_keys_and_buttons_and_hides_groups(seen: Seen) -> None:
    page = seen.page
    page.mouse.move(5, 5)
    whole = picture(page)
    box = page.locator("#map").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    page.mouse.wheel(0, -400)
    zoomed = picture(page)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.mouse.move(5, 5)
    moved = picture(page)
    page.focus("#map")
    page.keyboard.press("ArrowLeft")
    keyed = picture(page)
    assert len({whole, zoomed, moved, keyed}) == 4
    assert not page.locator("#player").is_visible(), "a drag is no choice"
    page.keyboard.press("0")
    assert picture(page) == whole
    page.click(".catalog-map-buttons button[aria-label='Zoom in']")
    assert picture(page) != whole
    page.click(".catalog-map-buttons button[aria-label='Show all']")
    page.locator("#legend button").first.click()
    page.mouse.move(5, 5)
    hidden = picture(page)
    assert hidden != whole and page.locator("#legend button").first.get_attribute("aria-pressed") == "false"
    page.locator("#legend button").first.click()
    page.mouse.move(5, 5)
    assert picture(page) == whole
    globals_ = "name => Object.hasOwn(window, name)"
    assert page.evaluate(globals_, "createCatalogMap") and not page.evaluate(globals_, "CELLS")
    page.focus("#map")
    page.keyboard.press("Enter")
    sounds(page)
    assert page.inner_text("#now-title") == page.inner_text(".catalog-map-tip b"), "the song nearest the middle"
    seen.check()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_every_state_fits_the_window(browser: Browser, server: Server, shots: Path, size: str, scheme: str) -> None:
    with opened(browser, server.url, size, scheme, reduced_motion="reduce") as seen:
        page = seen.page

        def shot(name: str) -> None:
            page.wait_for_timeout(400)
            seen.check()
            page.screenshot(path=shots / f"{size}-{scheme}-{name}.png")

        page.wait_for_selector("#drawing", state="detached")
        shot("1-start")
        page.locator("#words").press_sequentially(songs_on_map(page)[3][1][:4], delay=5)
        page.wait_for_selector("#suggestions [role=option]")
        shot("2-suggestions")
        ask(page, "slow sad waltz on a harp")
        shot("3-words")
        page.locator("#hits .play").first.click()
        sounds(page)
        page.locator("#hits .like").nth(2).click()
        page.wait_for_function("() => document.querySelector('#heading').textContent.startsWith('Like')")
        if not page.evaluate("document.getElementById('filters').open"):
            page.click("#filters summary")
        page.select_option("[name=genre]", index=1)
        page.wait_for_function("() => document.querySelector('#said').textContent.includes('fit the filters')")
        shot("4-like")
        page.press("#words", "Enter")
        page.wait_for_selector("#trouble:visible")
        shot("5-trouble")


def test_two_fingers_zoom_the_map_and_a_tap_chooses(browser: Browser, server: Server) -> None:
    with opened(browser, server.url, "phone") as seen:
        page = seen.page
        page.wait_for_selector("#drawing", state="detached")
        page.locator("#map").scroll_into_view_if_needed()
        whole, box = picture(page), page.locator("#map").bounding_box()
        assert box
        touch, middle = page.context.new_cdp_session(page), (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", None)):
            places = [] if apart is None else [{"x": middle[0] + side * apart, "y": middle[1]} for side in (-1, 1)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
        assert picture(page) != whole and not page.locator("#player").is_visible()
        page.click(".catalog-map-buttons button[aria-label='Show all']")
        page.wait_for_timeout(500)
        page.locator("#map").tap(position=point_on_map(page, 7))  # type: ignore[arg-type]
        sounds(page)
        seen.check()


def test_typed_words_outlive_a_change_of_the_filters(seen: Seen) -> None:
    page = seen.page
    page.fill("#words", "sad harp")
    page.select_option("[name=genre]", index=1)
    page.wait_for_function("() => document.querySelector('#heading').textContent === 'Songs that fit the filters'")
    assert page.input_value("#words") == "sad harp"
    page.press("#words", "Enter")
    page.wait_for_function("() => document.querySelector('#heading').textContent === '“sad harp”'")
    seen.check()


def test_requests_are_logged_without_the_words(server: Server) -> None:
    body = json.dumps({"kind": "words", "value": "slow sad waltz"}).encode()
    request = urllib.request.Request(f"{server.url}/api/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.load(answer)["hits"]) == 20
    log = server.log.read_text()
    assert "step=explore msg=request method=POST path=/api/search status=200" in log
    assert "waltz" not in log and "Traceback" not in log, log
