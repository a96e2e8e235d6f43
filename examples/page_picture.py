"""A picture of the page of a running server, after a question about a picture.

    uniperceiver serve runs/shapes --port 8000 &
    python examples/page_picture.py http://127.0.0.1:8000 photo.png page.png --ask Find

Needs Chromium, and `pip install playwright` (without `playwright install`).
"""

import argparse
import shutil
from io import BytesIO
from pathlib import Path

from PIL import Image

SHOWN = 720  # pixels of its width
COLOURS = 64  # of the written PNG, which is a tenth of the size so


def main() -> None:
    """Ask the page, and write what it looks like."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Take a picture of a server's page after a question.")
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ask", default="Classify", help="name of the tab (default: %(default)s)")
    words = parser.parse_args()
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 760})
        page.goto(words.url)
        page.get_by_role("tab", name=words.ask).click()
        page.set_input_files("#file", words.picture)
        page.locator("#ask").click()
        page.locator("#answer .verdict").wait_for(timeout=60_000)
        page.locator("#answer").scroll_into_view_if_needed()
        below = page.locator("#answer").bounding_box()
        taken = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
        height = min(taken.height, round(below["y"] + below["height"] + page.evaluate("scrollY")) + 24)
        browser.close()
    taken = taken.crop((0, 0, taken.width, height)).resize((SHOWN, height * SHOWN // taken.width))
    taken.quantize(COLOURS).save(words.out, optimize=True)


if __name__ == "__main__":
    main()
