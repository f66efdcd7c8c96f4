"""`htcl explore`: opens the published set of a workspace and serves its page until Ctrl-C."""

from __future__ import annotations

import contextlib
import socket
from datetime import datetime

import uvicorn

from htcl.artifacts import ArtifactStore
from htcl.champion import Champion, require_champion
from htcl.config import PipelineConfig
from htcl.embeddings.embedder import SongEmbedder
from htcl.errors import HTCLError
from htcl.explore.app import Page, create_app
from htcl.explore.chart import Chart
from htcl.explore.explorer import Explorer
from htcl.explore.guard import allowed_hosts, is_loopback
from htcl.explore.playing import Shelf
from htcl.explore.songs import COLUMNS, Songs
from htcl.explore.sounds import Decoder, ModelEars
from htcl.explore.spaces import read_spaces
from htcl.ingest.catalog import read_catalog
from htcl.logs import get_logger, log, log_warning
from htcl.plan import audio_root
from htcl.report.formats import moment
from htcl.shards.index import rows_of
from htcl.web.map import genre_colours

LOGGER = get_logger("explore")


def serve(config: PipelineConfig, host: str = "127.0.0.1", port: int = 8321) -> None:
    """Serve the page of the published set; returns after Ctrl-C or SIGTERM.

    Args:
        config: names workspace and audio.
        host: address or name to listen on; anything but loopback lets others listen too.
        port: 0 takes a free one.

    Raises:
        HTCLError: when nothing is published, or the port is taken.
    """
    champion = require_champion(config.workspace)
    if not is_loopback(host):
        log_warning(LOGGER, f"whoever reaches {host} can search this catalog and listen to its songs", host=host)
    with _listening(host, port) as listener:
        decoder = Decoder(config.audio)
        try:
            explorer, page = open_explorer(config, champion, decoder)
            explorer.chart.start()
            app = create_app(explorer, page, allowed_hosts(host))
            url = _url(host, listener.getsockname()[1])
            log(LOGGER, "serving", url=url, songs=len(explorer.songs), model=champion.stage2)
            print(f"open {url} in a browser; Ctrl-C ends it", flush=True)
            settings = uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=2
            )
            with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it anew when all is closed
                uvicorn.Server(settings).run(sockets=[listener])
        finally:
            decoder.close()


def open_explorer(config: PipelineConfig, champion: Champion, decoder: Decoder) -> tuple[Explorer, Page]:
    """Open what is published: songs, spaces, models, audio, and a map that nobody has drawn yet.

    Raises:
        HTCLError: when a part of the set is not there or damaged.
    """
    store = ArtifactStore(config.workspace)
    spaces = read_spaces(config.workspace, champion)
    catalog = read_catalog(store.fetch("catalog", champion.catalog), COLUMNS)
    rows = rows_of(catalog.select(["track_id"]), spaces.track_array)
    if (rows < 0).any():
        missing = spaces.tracks[int((rows < 0).argmax())]
        raise HTCLError(f"the published catalog {champion.catalog} has no song {missing!r}; run the pipeline again")
    songs = Songs(catalog.take(rows))
    colours = genre_colours(songs.genres.values[code] for code in songs.genres.codes.tolist() if code >= 0)
    explorer = Explorer(
        songs=songs,
        spaces=spaces,
        ears=_open_ears(config, store, champion, decoder),
        shelf=Shelf(audio_root(config), decoder),
        chart=Chart(songs, spaces.taste, colours),
    )
    since = moment(datetime.fromisoformat(champion.since))
    return explorer, Page(config.name, champion.stage2, since, config.report.text_queries, colours)


def _open_ears(config: PipelineConfig, store: ArtifactStore, champion: Champion, decoder: Decoder) -> ModelEars:
    stage1 = store.manifest("embeddings", champion.embeddings)["inputs"]["stage1"]
    keys = {"stage1": stage1, "stage2": champion.stage2}
    meaning, taste = (SongEmbedder.load(str(store.fetch(stage, key)), key) for stage, key in keys.items())
    return ModelEars(meaning, taste, decoder, config.audio)


def _url(host: str, port: int) -> str:
    """Where this machine's browser finds the page."""
    name = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise HTCLError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another by --host and --port"
        ) from None
