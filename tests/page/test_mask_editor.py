"""The mask editor by itself, in Chromium: strokes as people draw them, and the pixels that they make."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Route

import img2img_gateway
from img2img_shared.params import Params
from img2img_worker.pictures.mask import soft_mask
from tests.page.browser import PATIENCE

FOLDER = Path(img2img_gateway.__file__).parent / "page"
ORIGIN = "http://editor.test"
#: the surface is as large as the picture is shown, so that a pixel of the one is one of the other
WIDTH, HEIGHT = 400, 300
_PAGE = f"""<!doctype html><style>
#surface {{ position: absolute; left: 0; top: 0; width: {WIDTH}px; height: {HEIGHT}px; touch-action: none }}
#surface > * {{ position: absolute; left: 0; top: 0; pointer-events: none }}
.mask-overlay {{ width: 100%; height: 100% }} .mask-picture {{ transform-origin: 0 0 }}
</style><div id="surface" tabindex="0"></div>
<script type="module">
import {{ MaskEditor }} from "/studio/mask_editor.js";
window.open = (width, height, options) => {{
  const picture = new OffscreenCanvas(width, height);
  picture.getContext("2d").fillRect(0, 0, width, height);
  window.editor = new MaskEditor(document.getElementById("surface"), picture, options);
}};
window.png = async () => {{
  const bytes = new Uint8Array(await (await editor.mask.png()).arrayBuffer());
  return btoa(Array.from(bytes, (each) => String.fromCharCode(each)).join(""));
}};
window.ready = true;
</script>"""


def _serve(route: Route) -> None:
    path = route.request.url.removeprefix(ORIGIN).lstrip("/")
    if path:
        route.fulfill(path=FOLDER / path, content_type="text/javascript")
    else:
        route.fulfill(body=_PAGE, content_type="text/html")


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 500, "height": 400}, has_touch=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.route(f"{ORIGIN}/**", _serve)
    yield page
    context.close()


@pytest.fixture
def page(opened: Page) -> Page:
    """An editor over a picture of `WIDTH` × `HEIGHT`, its brush 40 pixels across."""
    opened.goto(ORIGIN)
    opened.wait_for_function("window.ready")
    opened.evaluate(f"open({WIDTH}, {HEIGHT}); editor.setSize(40)")
    return opened


def mask(page: Page) -> NDArray[np.uint8]:
    data = base64.b64decode(page.evaluate("png()"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def drag(page: Page, *points: tuple[int, int], button: Any = "left") -> None:
    page.mouse.move(*points[0])
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up(button=button)


def pen(page: Page, *points: tuple[int, int], buttons: int = 1, pointer: str = "pen") -> None:
    """A stroke of a pen, of which Playwright has none."""
    page.evaluate(
        """([points, buttons, pointerType]) => {
          const surface = document.getElementById("surface");
          surface.setPointerCapture = () => {};
          const send = (name, [clientX, clientY], pressed) => surface.dispatchEvent(new PointerEvent(name,
            { pointerId: 7, pointerType, clientX, clientY, buttons: pressed, button: 0, bubbles: true }));
          send("pointerdown", points[0], buttons);
          points.slice(1).forEach((point) => send("pointermove", point, buttons));
          send("pointerup", points.at(-1), 0);
        }""",
        [list(points), buttons, pointer],
    )


def test_a_stroke_masks_what_the_brush_went_over_and_nothing_else(page: Page) -> None:
    drag(page, (100, 100), (200, 100), (200, 200))
    found = mask(page)
    assert found.shape == (HEIGHT, WIDTH)
    assert (found[85:115, 100:200] == 255).all()
    assert (found[100:200, 185:215] == 255).all()
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (80, 219, 80, 219)
    assert found[150, 120] == 0


def test_a_press_without_a_move_is_a_dot(page: Page) -> None:
    drag(page, (50, 60))
    assert abs(np.count_nonzero(mask(page) > 128) - np.pi * 20**2) < 30


def test_the_eraser_takes_away_what_was_painted(page: Page) -> None:
    drag(page, (60, 100), (300, 100))
    page.keyboard.press("e")
    drag(page, (200, 100))
    found = mask(page)
    assert (found[100, 190:210] == 0).all()
    assert found[100, 100] == 255
    page.evaluate("editor.setTool('brush')")
    pen(page, (100, 100), buttons=32)
    assert mask(page)[100, 100] == 0, "the other end of a pen erases"


@pytest.mark.parametrize("pointer", ["pen", "touch"])
def test_a_pen_and_a_finger_paint_too(page: Page, pointer: str) -> None:
    pen(page, (100, 150), (200, 150), pointer=pointer)
    assert (mask(page)[150, 100:200] == 255).all()


def test_a_second_finger_zooms_and_leaves_no_mark(page: Page) -> None:
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[int, int]) -> None:
        told = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

    send("touchStart", (180, 150))
    send("touchStart", (180, 150), (220, 150))
    send("touchMove", (140, 150), (260, 150))
    send("touchEnd")
    assert page.evaluate("[editor.view.scale, editor.mask.isEmpty, editor.mask.canUndo]") == [3, True, False]
    send("touchStart", (200, 150))
    send("touchMove", (210, 150))
    send("touchEnd")
    found = mask(page)
    assert found[150, 200] == 255
    assert 35 <= np.count_nonzero(found[:, 200]) <= 45, "the brush's size is in the picture's pixels"


def test_every_change_can_be_taken_back_and_done_again(page: Page) -> None:
    states = [mask(page)]
    drag(page, (100, 100), (300, 250))
    states.append(mask(page))
    page.keyboard.press("i")
    states.append(mask(page))
    assert (states[2] == 255 - states[1]).all()
    page.keyboard.press("Delete")
    states.append(mask(page))
    assert not states[3].any()
    for state in states[-2::-1]:
        page.keyboard.press("Control+z")
        assert (mask(page) == state).all()
    assert page.evaluate("[editor.mask.canUndo, editor.mask.canRedo]") == [False, True]
    for state in states[1:]:
        page.keyboard.press("Control+Shift+z")
        assert (mask(page) == state).all()
    page.keyboard.press("Control+z")
    drag(page, (30, 30))
    assert page.evaluate("editor.mask.canRedo") is False, (
        "what was taken back is gone once there is another change"
    )


def test_the_keyboard_alone_can_paint(page: Page) -> None:
    page.focus("#surface")
    for key in ("]", "ArrowLeft", "Enter", "Shift+ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    found = mask(page)
    x, y = page.evaluate("[editor.cursor.x, editor.cursor.y]")
    assert y > HEIGHT / 2
    assert (found[HEIGHT // 2 : int(y), int(x)] == 255).all()
    assert page.evaluate("editor.size") == 49


def test_a_picture_larger_than_the_window_is_painted_where_the_pointer_is(page: Page) -> None:
    page.evaluate("open(4000, 3000); editor.setSize(100)")
    assert page.evaluate("editor.view.scale") == 0.1
    drag(page, (200, 150), (220, 150))
    found = mask(page)
    assert found.shape == (3000, 4000)
    assert (found[1500, 2000:2200] == 255).all()
    page.mouse.move(200, 150)
    page.mouse.wheel(0, -1000)
    page.wait_for_function("editor.view.scale > 0.5")
    drag(page, (200, 150), (200, 100), button="middle")
    where = page.evaluate("editor.view.toPicture({ x: 200, y: 100 })")
    assert (where["x"], where["y"]) == pytest.approx((2000, 1500), abs=1), "moved with the pointer"
    drag(page, (200, 160))
    where = page.evaluate("editor.view.toPicture({ x: 200, y: 160 })")
    assert mask(page)[int(where["y"]), int(where["x"])] == 255
    page.keyboard.press("0")
    assert page.evaluate("editor.view.scale") == 0.1


def test_a_mask_is_begun_with_and_is_what_was_bright(page: Page) -> None:
    page.evaluate(
        f"""() => {{
          const before = new OffscreenCanvas({WIDTH // 2}, {HEIGHT // 2});
          const to = before.getContext("2d");
          to.fillRect(0, 0, {WIDTH}, {HEIGHT});
          to.fillStyle = "#fff";
          to.fillRect(50, 50, 50, 50);
          open({WIDTH}, {HEIGHT}, {{ mask: before }});
        }}"""
    )
    found = mask(page)
    assert (found[105:195, 105:195] == 255).all()
    assert not found[:95].any()


@pytest.mark.parametrize(("across", "down"), [(4, 4), (8, 0), (0, 2.5), (8, 3)])
def test_the_blur_is_shown_as_it_will_act(page: Page, across: float, down: float) -> None:
    """To the edge of the picture, where it is mirrored. Within what doubling and halving of alpha costs."""
    drag(page, (0, 100), (150, 120), (399, 299))
    page.evaluate(f"editor.setBlur({across}, {down})")
    shown = page.evaluate(
        """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
          const overlay = document.querySelector(".mask-overlay");
          const { data } = overlay.getContext("2d").getImageData(0, 0, overlay.width, overlay.height);
          const alpha = Array.from({ length: data.length / 4 }, (_, at) => data[4 * at + 3]);
          done(btoa(alpha.map((each) => String.fromCharCode(each)).join("")));
        })))"""
    )
    acts = soft_mask(Image.fromarray(mask(page)), Params(mask_blur_x=across, mask_blur_y=down))
    alpha = np.frombuffer(base64.b64decode(shown), np.uint8).reshape(HEIGHT, WIDTH)
    off = np.abs(alpha / 0.6 - np.asarray(acts, float))
    assert off.max() < 6
