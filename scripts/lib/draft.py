"""Renders docs/draft-salsa.md to text and HTML in a directory, the same each day: mmark makes XML, xml2rfc the rest."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "docs" / "draft-salsa.md"

# fonts, and data of an RFC, whose servers would hear of readers; versions; a file that is not kept
LEFT_OUT = re.compile(
    r"^@import url\(.*?\n|^<script type=.*?</script>\n|^<meta [^>]*generator.*?\n|^<!-- Generator version.*?-->\n"
    r"|^<link href=.*?alternate.*?\n",
    re.MULTILINE | re.DOTALL,
)


def render(directory: Path) -> list[str]:
    """Write draft-salsa.txt and .html; what xml2rfc had to say. Raises CalledProcessError, and OSError for no mmark."""
    xml2rfc = Path(sys.executable).with_name("xml2rfc")
    with tempfile.TemporaryDirectory() as work:
        xml = Path(work, "draft-salsa.xml")
        xml.write_bytes(subprocess.run(["mmark", SOURCE], check=True, capture_output=True).stdout)
        options = ["--no-network", "--quiet", "--no-external-js", "--text", "--html", "--path", work]
        done = subprocess.run([xml2rfc, *options, xml], check=True, capture_output=True, text=True)
        html = xml.with_suffix(".html").read_text()
        directory.joinpath("draft-salsa.html").write_text(LEFT_OUT.sub("", html))
        directory.joinpath("draft-salsa.txt").write_text(xml.with_suffix(".txt").read_text())
    return [line.replace(work, "") for line in done.stderr.splitlines() if line.strip()]


if __name__ == "__main__":
    for said in render(Path(sys.argv[1])):
        print(said, file=sys.stderr)
