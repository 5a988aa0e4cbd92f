"""The page of bireal-live in headless Chromium: make test-browser.

Screenshots, for a person to look at, go to _build/browser.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from brightness import brightness
from PIL import Image
from videos import plain, write_video

from bireal_keras import runtime
from bireal_keras.runtime import open_camera

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs the package playwright: make test-browser"
)

PICTURES = Path(__file__).parents[3] / "_build/browser"
NARROW, WIDE = (390, 844), (1280, 800)
MILLISECONDS = 30_000
SHADES = (15, 235, 95, 175)
# In the page: the mean of the picture's red, green and blue.
MEAN = """() => {
    const image = document.getElementById("picture");
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0;
    for (let i = 0; i < pixels.length; i += 4) sum += pixels[i] + pixels[i + 1] + pixels[i + 2];
    return sum / (pixels.length / 4 * 3);
}"""
# Red, green and blue of the text and of what is behind it.
COLOURS = """(selector) => {
    const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
    const element = document.querySelector(selector);
    let below = element;
    const colour = () => numbers(getComputedStyle(below).backgroundColor);
    while (below.parentElement && colour().length === 4 && colour()[3] === 0)
        below = below.parentElement;
    return [numbers(getComputedStyle(element).color), colour()];
}"""


@pytest.fixture(scope="module")
def browser():
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    path = next((path for path in found if path is not None), None)
    if path is None:
        pytest.skip("needs Chromium: apt install chromium")
    with playwright.sync_playwright() as driver:
        # A container has no right to make the sandbox, and the page is ours.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "brightness.tflite"
    path.write_bytes(brightness(threshold=0.5))
    return path


@pytest.fixture
def video(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(-15, 15, (48, 64, 3))
    frames = [(plain(shade) + noise).astype(np.uint8) for shade in SHADES]
    return write_video(tmp_path / "clip.avi", frames, fps=5)


@contextlib.contextmanager
def serving(model, video, port=0):
    """bireal-live, and its address."""
    code = "from bireal_keras.commands import live; live.run()"
    arguments = [str(model), f"--camera={video}", f"--port={port}"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextlib.contextmanager
def opened(browser, address, size=WIDE, **options):
    """The page, which must not ask elsewhere or complain."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    complaints, hosts = [], set()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.goto(address)
    wait_for(page, "live")
    yield page
    assert complaints == []
    assert hosts <= {urlsplit(address).netloc, ""}  # "" is the picture's, blob:...
    context.close()


def wait_for(page, state):
    page.wait_for_selector(f"body[data-state={state}]", timeout=MILLISECONDS)


def contrast(page, selector):
    """Of text, by WCAG 2.2, Section 1.4.3."""

    def luminance(colour):
        share = np.array(colour[:3]) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted(map(luminance, page.evaluate(COLOURS, selector)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_shows_what_classify_says_of_the_files_frames(browser, model, video):
    with open_camera(video) as camera:
        answers = [
            (guesses[0].label, f"{100 * guesses[0].probability:.1f}")
            for guesses in runtime.classify(list(camera), model)
        ]
    seen = set()
    deadline = time.monotonic() + 60
    with serving(model, video) as address, opened(browser, address) as page:
        while len(seen) < len(SHADES) and time.monotonic() < deadline:
            page.click("#pause")
            wait_for(page, "paused")
            index = int(np.argmin(np.abs(np.array(SHADES) - page.evaluate(MEAN))))
            label, percent = answers[index]
            assert page.inner_text("#answer") == label
            first, *_ = page.inner_text("#classes").splitlines()
            assert first == label
            assert float(re.match(r"[\d.]+", page.inner_text("#certainty"))[0]) == float(percent)
            seen.add(index)
            page.click("#pause")
            wait_for(page, "live")
    assert seen == set(range(len(SHADES)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_fits_and_can_be_read(browser, model, video, size, scheme):
    width, height = size
    with (
        serving(model, video) as address,
        opened(browser, address, size, color_scheme=scheme) as page,
    ):
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"live-{width}-{scheme}.png")
        for selector in ("#status", "#pause"):
            assert contrast(page, selector) >= 4.5, selector
        page.keyboard.press("Space")  # The next picture is another element.
        wait_for(page, "paused")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for selector in ("#picture", "#box", "#answer", "#pause", "#snapshot", "#classes li .bar"):
            box = page.locator(selector).first.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height
        for selector in ("#title", "#status", "#answer", "#certainty", "#speed", "#pause"):
            assert contrast(page, selector) >= 4.5, selector
        button = page.locator("#pause").bounding_box()
        # Large enough for a thumb: WCAG 2.2, Section 2.5.5.
        assert min(button["width"], button["height"]) >= 44
        [_, ground] = page.evaluate(COLOURS, "body")
        assert (sum(ground[:3]) < 3 * 128) == (scheme == "dark")


def test_pause_and_snapshot_by_keys(browser, model, video, tmp_path):
    with serving(model, video) as address, opened(browser, address) as page:
        page.keyboard.press("Space")
        wait_for(page, "paused")
        before = page.evaluate(MEAN)
        time.sleep(1)  # Five pictures of the video.
        assert page.evaluate(MEAN) == before
        with page.expect_download(timeout=MILLISECONDS) as waiting:
            page.keyboard.press("s")
        label = page.inner_text("#answer")
        assert re.fullmatch(rf"{label}-\d+-[\dT-]+\.jpg", waiting.value.suggested_filename)
        waiting.value.save_as(tmp_path / "snapshot.jpg")
        with Image.open(tmp_path / "snapshot.jpg") as image:
            assert (image.format, image.size) == ("JPEG", (64, 48))
            assert np.asarray(image.convert("RGB")).mean() == pytest.approx(before, abs=1)


def test_a_camera_that_vanishes_and_comes_back(browser, model, video):
    with serving(model, video) as address, opened(browser, address) as page:
        away = video.rename(video.with_suffix(".away"))
        wait_for(page, "error")
        assert "which is not a file" in page.inner_text("#notice")
        page.screenshot(path=PICTURES / "live-error.png")
        away.rename(video)
        wait_for(page, "live")
        assert page.inner_text("#notice") == ""


def test_a_server_that_ends_and_starts_again(browser, model, video):
    with contextlib.ExitStack() as first:
        address = first.enter_context(serving(model, video))
        with opened(browser, address) as page:
            first.close()
            wait_for(page, "lost")
            assert "does not answer" in page.inner_text("#notice")
            with serving(model, video, urlsplit(address).port):
                wait_for(page, "live")
