"""The web side: what the routes answer, whom they answer, and what is written down of it."""

import re
import socket
from pathlib import Path

import pytest

import htcl.explore.app as app_module
from htcl.explore.guard import HEADERS, MOST_BODY, allowed_hosts, is_loopback, may_be_called
from htcl.explore.refusal import Refusal

from .conftest import NASTY


def ask(client, **question):
    return client.post("/api/search", json={"kind": "words", "value": "slow harp", **question})


def test_a_search_answers_with_hits(client):
    body = ask(client, weight=0, k=2).json()
    assert [hit["song"]["track_id"] for hit in body["hits"]] == ["s0", "s1"]
    assert body["hits"][0]["meaning"] == pytest.approx(1)
    assert body["matching"] == 8


def test_bad_questions_are_answered_in_a_sentence(client):
    empty = ask(client, value=" ")
    assert (empty.status_code, empty.json()) == (400, {"error": "Say in a few words what you would like to hear."})
    for nonsense in ({"weight": 3}, {"kind": "smell"}, {"filters": {"colour": "red"}}, {"k": 100_000}):
        strange = ask(client, **nonsense)
        assert strange.status_code == 422 and "reload the page" in strange.json()["error"]
    assert client.post("/api/search", content=b"{").status_code == 422


def test_suggestions_and_single_songs(client):
    assert [song["track_id"] for song in client.get("/api/suggest", params={"text": "harp"}).json()] == ["s1", "s0"]
    assert client.get("/api/song/dir%2Fs6%3F").json()["song"]["title"] == "A Slash"
    missing = client.get("/api/song/s77")
    assert missing.status_code == 404 and "Did you mean “s7”" in missing.json()["error"]


def test_the_map_is_told_when_it_is_there(client, explorer):
    assert client.get("/api/map").status_code == 202
    explorer.chart.work_out()
    told = client.get("/api/map")
    assert told.status_code == 200 and len(told.json()["songs"]) == 8


def test_audio_comes_in_ranges(client, audio_root):
    data = (audio_root / "0.wav").read_bytes()
    whole = client.get("/audio/s0")
    assert whole.content == data and whole.headers["content-type"] in ("audio/wav", "audio/x-wav")
    part = client.get("/audio/s0", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == data[10:20]
    assert client.get("/audio/dir%2Fs6%3F").content == (audio_root / "6.wav").read_bytes()


@pytest.mark.parametrize(("track", "sentence"), [("s2", "not there"), ("s4", "not there"), ("s77", "Did you mean")])
def test_audio_that_is_not_there(client, track, sentence):
    answer = client.get(f"/audio/{track}")
    assert answer.status_code == 404 and sentence in answer.json()["error"]


def test_a_sound_is_heard_and_found_again(client):
    heard = client.post("/api/sound", content=b"noise").json()
    assert (heard["seconds"], heard["cut"]) == (12.0, True)
    body = ask(client, kind="sound", value=heard["sound"], weight=1).json()
    assert body["hits"][0]["song"]["track_id"] == "s7"
    text = client.post("/api/sound", content=b"text, no sound")
    assert text.status_code == 422 and text.json()["error"] == "This is not a sound file."


def test_an_upload_is_not_read_beyond_the_limit(client, monkeypatch):
    monkeypatch.setattr(app_module, "MOST_BYTES", 1000)
    told = client.post("/api/sound", content=bytes(1001))
    streamed = client.post("/api/sound", content=(bytes(500) for _ in range(3)))
    assert "content-length" in told.request.headers and "content-length" not in streamed.request.headers
    for answer in (told, streamed):
        assert answer.status_code == 413 and answer.json()["error"] == app_module.TOO_LARGE
    assert client.post("/api/sound", content=bytes(1000)).status_code == 200


def test_a_question_is_not_read_beyond_the_limit(client):
    told = client.post("/api/search", content=bytes(MOST_BODY + 1))
    untold = client.post("/api/search", content=(bytes(500) for _ in range(3)))
    for answer in (told, untold):
        assert answer.status_code == 413 and "at most" in answer.json()["error"]


def test_every_answer_has_the_headers(client):
    for answer in (client.get("/"), client.get("/audio/s0"), client.get("/nothing"), ask(client, value="")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["Cache-Control"] == "no-cache"
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'; media-src 'self' blob:;")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/static/app.py", "/static/..%2fapp.py"])
def test_nothing_else_is_served(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:8321", 200), ("[::1]:8321", 200), ("evil.example", 400), ("127.0.0.1.evil", 400)],
)
def test_only_names_of_this_machine_are_answered(client, host, status):
    assert client.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8321", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_sites_cannot_ask(client, headers, status):
    answer = client.post("/api/search", json={"kind": "browse"}, headers=headers)
    assert answer.status_code == status
    assert status == 200 or answer.json() == {"error": "Only the page of this server may ask that."}


def test_other_sites_may_link_to_the_page_but_not_take_its_songs(client):
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/", headers=elsewhere).status_code == 200
    assert client.get("/audio/s0", headers=elsewhere).status_code == 403
    assert client.get("/api/map", headers=elsewhere).status_code == 403


def test_hosts_by_which_a_server_may_be_called():
    assert {"127.0.0.1", "localhost", "music.lan"} <= set(allowed_hosts("music.lan"))
    assert "[fe80::1]" in allowed_hosts("fe80::1") and "10.0.0.7" in allowed_hosts("10.0.0.7")
    for unspecified in ("0.0.0.0", "::"):
        hosts = allowed_hosts(unspecified)
        for name in ("10.0.0.7:8321", "[fe80::1]:8321", "localhost", f"{socket.gethostname()}:8321"):
            assert may_be_called(name, hosts)
        for name in ("evil.example:8321", "10.0.0.7.evil.example", "", "[::1"):
            assert not may_be_called(name, hosts)
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "10.0.0.7", "music.lan")] == [False] * 3


def test_requests_are_logged_without_what_was_asked(client, caplog):
    with caplog.at_level("INFO", logger="htcl.explore"):
        ask(client, value="my secret wish")
        client.get("/?q=my+secret+wish")
        client.get("/api/suggest", params={"text": "secret"})
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" ms=")[0] for line in lines] == [
        "request method=POST path=/api/search status=200",
        "request method=GET path=/ status=200",
        "request method=GET path=/api/suggest status=200",
    ]


def test_a_storage_that_fails_is_said_and_logged(client, explorer, monkeypatch, caplog):
    from htcl.errors import PassingError

    def fail(_):
        raise PassingError("s3://songs/a.wav cannot be read: no answer")

    monkeypatch.setattr(explorer.shelf, "file", fail)
    with caplog.at_level("INFO", logger="htcl.explore"):
        answer = client.get("/audio/s0")
    assert answer.status_code == 503 and "no answer" in answer.json()["error"]
    assert any("no answer" in record.getMessage() and record.levelname == "ERROR" for record in caplog.records)
    assert not isinstance(PassingError("x"), Refusal)


def test_the_page_names_the_set_and_needs_nothing_from_elsewhere(client):
    page = client.get("/").text
    for part in ("A small world", "cafe", "1 May 2025", "Samba (3)", 'placeholder="2001"', "slow harp"):
        assert part in page
    assert NASTY not in page
    names = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {name for name in names if not name.startswith("#")} == set(re.findall(r'"(/static/[^"]+)"', page))
    assert "style=" not in page and not re.search(r"<script(?![^>]*(src=|application/json))", page)
    for name in [*(name for name in names if name.startswith("/static/")), *modules(client)]:
        answer = client.get(name)
        assert answer.status_code == 200, name
        elsewhere = re.findall(r"""https?://[^\s'"]+|['"(]//[^\s'"]+""", answer.text)
        assert set(elsewhere) <= {"http://www.w3.org/2000/svg"}, name


def modules(client):
    """What the scripts import."""
    own = Path(app_module.__file__).parent / "static"
    found = {name for file in own.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', file.read_text())}
    assert {file.name for file in own.glob("*.js")} == found | {"explore.js"}
    return [f"/static/{name}" for name in found]
