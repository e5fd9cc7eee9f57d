"""Takes a picture of a report with headless Chromium: `python docs/make_screenshot.py runs/x/report.html`.

Writes docs/report.png unless told otherwise. Needs chromium, chromedriver and selenium.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def main() -> None:
    """Reads the command line and takes the picture."""
    parser = argparse.ArgumentParser(description="Take a picture of a report.")
    parser.add_argument("report", type=Path, help="the report's HTML file")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "report.png")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=860)
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels per CSS pixel")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--whole", action="store_true", help="the whole page, not its first screen")
    parser.add_argument("--at", default="", help="id of the element to begin at")
    take(**vars(parser.parse_args()))


def take(
    *,
    report: Path,
    out: Path,
    width: int = 1280,
    height: int = 860,
    scale: float = 1.0,
    scheme: str = "light",
    whole: bool = False,
    at: str = "",
) -> None:
    """Opens `report` in a fresh browser profile and writes a PNG to `out`."""
    import base64

    from selenium import webdriver

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
            _resize(driver, width, height, scale)
            driver.get(report.resolve().as_uri())
            size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            if whole:
                _resize(driver, width, int(size["height"]), scale)
            elif at:
                driver.execute_script("document.getElementById(arguments[0]).scrollIntoView()", at)
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            out.write_bytes(base64.b64decode(shot["data"]))
        finally:
            driver.quit()


def _resize(driver: object, width: int, height: int, scale: float) -> None:
    driver.execute_cdp_cmd(  # type: ignore[attr-defined]
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600},
    )


if __name__ == "__main__":
    main()
