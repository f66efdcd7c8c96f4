"""The report as one HTML string that needs nothing else: no network, no other file."""

from itertools import groupby
from operator import attrgetter

from jinja2 import Environment, PackageLoader, StrictUndefined

from htcl.report import formats
from htcl.report.bridge import Bridge
from htcl.report.catalog_map import drawn
from htcl.report.charts import Whisker, bars, line_chart, whiskers
from htcl.report.data import FunnelRow, Headline
from htcl.report.page import ReportData
from htcl.report.results import blocks
from htcl.web import web_file
from htcl.web.map import OTHER, genre_colours, legend

KEY_LINE = 26
"""Height of a line of the key beside the bridge, in pixels."""


def render(data: ReportData) -> str:
    """The whole page; the same data gives the same bytes."""
    colours = genre_colours(point.genre for point in data.points)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            headlines=[(headline, _against(headline)) for headline in data.headline],
            funnel=_funnel(data.funnel),
            rejects=sorted(data.rejects, key=attrgetter("count"), reverse=True),
            charts=[(curve.stage, line_chart(curve)) for curve in data.curves],
            blocks=blocks(data.results),
            bridge=shown_bridge(data),
            card_blocks=blocks(data.card.tables) if data.card else [],
            decile_charts=[(curve.stage, line_chart(curve)) for curve in data.card.deciles] if data.card else [],
            points=drawn(data.points, colours),
            legend=legend([point.genre for point in data.points], colours),
            colours=colours,
            other=OTHER,
            look=web_file("look.css"),
            map_css=web_file("map.css"),
            map_js=web_file("map.js"),
        )
    )


def shown_bridge(data: ReportData) -> Bridge | None:
    """The report card's where there is one, else that of the run."""
    return data.card.bridge if data.card else data.bridge


def render_bridge(bridge: Bridge) -> str:
    """The bridge as a picture by itself, an SVG for slides and READMEs, light and dark."""
    width, height, left, top, key_x = 1000, 560, 52, 44, 716
    plot_width, plot_height = key_x - left - 32, height - top - 60
    return (
        _environment()
        .get_template("bridge.svg.j2")
        .render(
            bridge=bridge,
            width=width,
            height=max(height, top + KEY_LINE * len(bridge.marks)),
            left=left,
            top=top,
            key_x=key_x,
            key_line=KEY_LINE,
            plot_width=plot_width,
            plot_height=plot_height,
            across=lambda percent: round(left + plot_width * percent / 100, 1),
            down=lambda percent: round(top + plot_height * percent / 100, 1),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("htcl.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        formats.grouped,
        formats.measure,
        formats.interval,
        formats.share,
        formats.signed,
        formats.duration,
        formats.moment,
        formats.words,
    ):
        environment.filters[function.__name__] = function
    return environment


def _against(headline: Headline) -> list[Whisker | None]:
    """A picture of each figure, where there is more than one to compare."""
    triples = [
        (float(figure.value), figure.low, figure.high)
        for figure in headline.figures
        if not isinstance(figure.value, str)
    ]
    comparable = 1 < len(triples) == len(headline.figures)
    return whiskers(triples) if comparable else [None] * len(headline.figures)


def _funnel(rows: list[FunnelRow]) -> list[tuple[str, list[tuple[FunnelRow, float]]]]:
    """Runs of rows of one group, each row with the length of its bar."""
    groups = [(name, list(members)) for name, members in groupby(rows, key=attrgetter("group"))]
    return [(name, list(zip(members, bars([row.count for row in members]), strict=True))) for name, members in groups]
