"""How pages look: one style sheet for light, dark and print, and the colours that figures share with it.

Figures are drawn in the colours of `Ink`; `ctclip.pages.svg` turns each into the style sheet's variable of that name,
so that a figure follows the reader's colour scheme. Series colours are told apart by colour-blind readers (Okabe and
Ito 2008), and by shape or label too wherever two meet.
"""


class Ink:
    """Stand-ins that no figure uses for anything else. Names are those of the variables in STYLE."""

    TEXT = "#010101"
    MUTED = "#020202"
    GRID = "#030303"
    FIRST = "#040404"
    SECOND = "#050505"
    PAPER = "#060606"


VARIABLES = {
    Ink.TEXT: "--text", Ink.MUTED: "--muted", Ink.GRID: "--grid", Ink.FIRST: "--first", Ink.SECOND: "--second",
    Ink.PAPER: "--paper",
}  # fmt: skip

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --panel: #f4f6f9; --text: #1b2330; --muted: #576274;
  --grid: #d9dfe7; --first: #0b5fa5; --second: #b3470a; --notice: #fff3d1; --edge: #b98900; --strong: #eaf1f8; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --panel: #1c222c; --text: #e6eaf0; --muted: #a3adbb;
  --grid: #38414f; --first: #6cb6f5; --second: #f0965a; --notice: #3a3013; --edge: #d9a514; --strong: #232d3a; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; max-width: 76rem;
  margin: 0 auto; padding: 1.5rem 1.25rem 4rem; color: var(--text); background: var(--paper); }
h1 { font-size: 1.75rem; line-height: 1.25; margin: .4rem 0 .6rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--grid); }
p { max-width: 62rem; } a { color: var(--first); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .9rem; margin: .8rem 0 1.2rem; }
.notice { background: var(--notice); border-left: 4px solid var(--edge); padding: .6rem 1rem; margin: 1rem 0;
  max-width: none; border-radius: 0 4px 4px 0; }
.facts { display: flex; flex-wrap: wrap; gap: .4rem; list-style: none; padding: 0; margin: .8rem 0; font-size: .86rem; }
.facts li { background: var(--panel); border: 1px solid var(--grid); border-radius: 999px; padding: .12rem .7rem; }
.facts b { font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11.5rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.tile { background: var(--panel); border: 1px solid var(--grid); border-radius: 8px; padding: .8rem 1rem; }
.tile .name { color: var(--muted); font-size: .84rem; } .tile .value { font-size: 1.7rem; font-weight: 650;
  font-variant-numeric: tabular-nums; line-height: 1.3; } .tile .note { color: var(--muted); font-size: .82rem;
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 1rem 0; } .scroll:focus-visible { outline: 2px solid var(--first); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
caption { text-align: left; color: var(--muted); font-size: .86rem; padding-bottom: .5rem; max-width: 62rem; }
th, td { padding: .28rem .65rem; border-bottom: 1px solid var(--grid); text-align: right; white-space: nowrap; }
td small, th small { display: block; color: var(--muted); font-size: .8rem; font-weight: 400; line-height: 1.2; }
th[scope=row], thead th:first-child { text-align: left; font-weight: 500; position: sticky; left: 0;
  background: var(--paper); }
thead th { border-bottom: 2px solid var(--muted); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody tr:hover td, tbody tr:hover th { background: var(--panel); }
tr.strong td, tr.strong th[scope=row] { font-weight: 650; background: var(--strong); }
figure { margin: 1.2rem 0; } figure svg, img { display: block; max-width: 100%; height: auto; }
svg text { font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif !important; }
figcaption { color: var(--muted); font-size: .88rem; max-width: 62rem; margin-top: .4rem; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; }
pre { background: var(--panel); border: 1px solid var(--grid); border-radius: 6px; padding: .8rem; overflow-x: auto;
  font-size: .8rem; line-height: 1.45; }
@media print { nav, summary { display: none; } body { max-width: none; } figure, tr { break-inside: avoid; } }
"""
