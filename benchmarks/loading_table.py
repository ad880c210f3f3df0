"""`python -m benchmarks.loading_table`: README's loading tables and plot, of the newest rows of the loading benchmark.

Rows of results/loading.csv enter; the text between README's markers and results/loading.svg leave. Of a rival's
settings the fastest is shown. Nothing is measured here.
"""

import argparse
import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loading import CACHED, OURS, RAW, WORKS
from benchmarks.rows import RESULTS

README = RESULTS.parents[1] / "README.md"
MARKERS = ("<!-- loading: begin -->", "<!-- loading: end -->")
MEASURED = ("rate", "cpu", "peak memory")
_LEFT, _WIDE, _BAR = 270, 430, 16  # of the plot, in px


@dataclass(frozen=True)
class Line:
    """One provider of one work.

    Attributes:
        provider: Its name, with the setting that was fastest.
        rate, cpu, memory: (p20, p50, p80) of studies/s, CPU ms per study and MiB; None where there is no row.
        ratio, cached_ratio: Of the rate of ours against it, without and with a cache in RAM; likewise.
    """

    provider: str
    rate: tuple[float, float, float]
    cpu: tuple[float, float, float] | None
    memory: tuple[float, float, float] | None
    ratio: tuple[float, float, float] | None
    cached_ratio: tuple[float, float, float] | None


def newest_lines(rows: list[dict[str, str]], work: str) -> list[Line]:
    """The providers of the newest run of one work, the fastest first.

    Args:
        rows: Of the CSV, in its order.
        work: Its name.

    Raises:
        ValueError: No such rows.
    """
    of_work = [row for row in rows if row["work"] == work]
    ours = [row for row in of_work if (row["provider"], row["metric"]) == (OURS, "rate")]
    if not ours:
        raise ValueError(f"no rates of {OURS} at {work!r}; run `python -m benchmarks.run loading` first")
    run = [row for row in of_work if all(row[key] == ours[-1][key] for key in ("config", "commit", "date", "machine"))]
    found = {(row["provider"], row["metric"]): tuple(float(row[key]) for key in ("p20", "p50", "p80")) for row in run}
    best: dict[str, Line] = {}
    for (provider, metric), rate in found.items():
        if metric != "rate":
            continue
        cpu, memory = (found.get((provider, other)) for other in MEASURED[1:])
        plain, cached = (found.get((f"{ours} / {provider}", "ratio")) for ours in (OURS, CACHED))
        line = Line(provider, rate, cpu, memory, plain, cached)  # pyright: ignore
        rival = re.sub(r" workers=\d+$", "", provider)
        if rival not in best or best[rival].rate[1] < rate[1]:
            best[rival] = line
    return sorted(best.values(), key=lambda line: -line.rate[1])


def table_of(lines: list[Line], title: str) -> str:
    """Markdown, one line per provider; a column that nobody has is left out."""
    columns = {
        title: [f"**{line.provider}**" if line.provider in (OURS, CACHED) else line.provider for line in lines],
        "studies/s": [_spread(line.rate) for line in lines],
        "CPU ms/study": [_middle(line.cpu) for line in lines],
        "peak MiB": [_middle(line.memory) for line in lines],
        f"{OURS} against it": [_spread(line.ratio, "x") for line in lines],
        "... with the cache": [_spread(line.cached_ratio, "x") for line in lines],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    rows = [list(kept), ["---"] * len(kept), *zip(*kept.values(), strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def notes_of(rows: list[dict[str, str]], work: str) -> str:
    """From which epoch packing pays, where the newest run has it."""
    found = [row for row in rows if row["work"] == work and row["metric"] in ("break-even", "ingest")]
    if len(found) < 2:
        return ""
    pack, epochs = found[-2], found[-1]
    return (
        f"Against {RAW}, packing (which took {float(pack['p50']):.2f} s a study) pays from epoch "
        f"{math.ceil(float(epochs['p50']))} on [{float(epochs['p20']):.1f}, {float(epochs['p80']):.1f}]."
    )


def plot_of(works: dict[str, list[Line]]) -> str:
    """An SVG: for each work one bar per provider, studies/s on a logarithmic scale, p20 to p80 as a line."""
    parts, y = [], 10
    for title, lines in works.items():
        low = 10 ** math.floor(math.log10(min(line.rate[0] for line in lines)))
        high = 10 ** math.ceil(math.log10(max(line.rate[2] for line in lines)))
        parts.append(_text(10, y + 14, title, "bold"))
        y += 24
        for line in lines:
            p20, p50, p80 = (_position(rate, low, high) for rate in line.rate)
            color = "#1f77b4" if line.provider.startswith("ctload") else "#b0b0b0"
            parts.append(_text(_LEFT - 6, y + 12, line.provider, anchor="end"))
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{p50 - _LEFT:.1f}" height="{_BAR - 3}" fill="{color}"/>')
            parts.append(
                f'<path d="M{p20:.1f} {y + 6.5}H{p80:.1f}M{p20:.1f} {y + 3}v7M{p80:.1f} {y + 3}v7" stroke="#333"/>'
            )
            parts.append(_text(max(p50, p80) + 5, y + 11, f"{line.rate[1]:.3g}"))
            y += _BAR
        y += 16
    style = "font-family:sans-serif;font-size:11px"
    size = f'width="{_LEFT + _WIDE + 60}" height="{y}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}">\n' + "\n".join(
        ['<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"]
    )


def _position(rate: float, low: float, high: float) -> float:
    return _LEFT + _WIDE * math.log(rate / low) / math.log(high / low)


def _text(x: float, y: float, text: str, weight: str = "normal", anchor: str = "start") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}" text-anchor="{anchor}">{escaped}</text>'


def _spread(values: tuple[float, float, float] | None, unit: str = "") -> str:
    if values is None:
        return ""
    p20, p50, p80 = (f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values)
    return f"{p50}{unit} [{p20}, {p80}]"


def _middle(values: tuple[float, float, float] | None) -> str:
    return "" if values is None else f"{values[1]:.0f}" if values[1] >= 100 else f"{values[1]:.2g}"


def write_report(results: Path, readme: Path) -> None:
    """Put tables and plot of the rows in `results`/loading.csv in their places.

    Raises:
        ValueError: `readme` lacks the markers, or there are no rows.
    """
    with (results / "loading.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    works = {name.removeprefix("store -> "): newest_lines(rows, name) for name, _, _ in WORKS.values()}
    notes = [notes_of(rows, name) for name, _, _ in WORKS.values()]
    tables = [
        "\n\n".join(filter(None, (table_of(lines, title), note)))
        for (title, lines), note in zip(works.items(), notes, strict=True)
    ]
    begin, end = MARKERS
    text = readme.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{readme.name} needs the markers {begin} and {end}, between which the tables go")
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    readme.write_text("\n\n".join([before, *tables, after]), encoding="utf-8")
    (results / "loading.svg").write_text(plot_of(works), encoding="utf-8")


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.loading_table", description=__doc__).parse_args()
    write_report(RESULTS, README)


if __name__ == "__main__":
    main()
