"""A page in headless Chromium: what it draws, and what its console says."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_PROBE = """
<script>
window.addEventListener("load", () => {
  const drawn = [...document.querySelectorAll("svg")].map((svg) => {
    const box = svg.getBoundingClientRect();
    const paths = [...svg.querySelectorAll("path, use")].filter((part) => {
      const around = part.getBoundingClientRect();
      return around.width + around.height > 0;
    });
    const colours = new Set(paths.map((part) => getComputedStyle(part).stroke + getComputedStyle(part).fill));
    return { label: svg.getAttribute("aria-label"), width: box.width, height: box.height, paths: paths.length,
             colours: [...colours], texts: svg.querySelectorAll("text").length };
  });
  const images = [...document.images].map((image) => image.naturalWidth);
  const ids = [...document.querySelectorAll("[id]")].map((part) => part.id);
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  const found = { drawn, images, repeated: ids.length - new Set(ids).size, wide,
                  requests: requests.filter((name) => !name.startsWith("data:")) };
  document.title = "PROBE" + JSON.stringify(found) + "END";
  console.log("probe is done");
});
</script>
"""


@dataclass(frozen=True)
class Opened:
    """What a browser made of a page.

    Attributes:
        drawn: One entry per svg: label, size, how many of its paths cover pixels, their colours, number of texts.
        images: Width of every image as decoded, 0 where broken.
        num_repeated_ids: Ids that stand more than once.
        overflow: Pixels by which the page is wider than its window.
        requests: Everything that was fetched.
        console: Lines of the console, but for the probe's own.
    """

    drawn: list[dict]
    images: list[int]
    num_repeated_ids: int
    overflow: int
    requests: list[str]
    console: list[str]


def open_in_chromium(page: Path, folder: Path) -> Opened:
    """Open a copy of a page to which a probe was added; skips where there is no Chromium."""
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("needs Chromium (chromium, chromium-browser or google-chrome) on the path")
    probed = folder / f"probed-{page.name}"
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", _PROBE + "</body>"), encoding="utf-8")
    words = [
        found[0], "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1280,900",
        "--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}", "--dump-dom", probed.as_uri(),
    ]  # fmt: skip
    result = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    assert any("probe is done" in line for line in console), f"the console is not heard: {result.stderr[-2000:]}"
    match = re.search(r"PROBE(\{.*?\})END", result.stdout, re.DOTALL)
    assert match, "the probe has set no title"
    seen = json.loads(match.group(1).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    return Opened(
        seen["drawn"], seen["images"], seen["repeated"], seen["wide"], seen["requests"],
        [line for line in console if "probe is done" not in line],
    )  # fmt: skip
