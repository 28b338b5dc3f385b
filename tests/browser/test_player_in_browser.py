"""The step player in a page of its own: the module with a stand-in for Jupyter's model."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from widgets.common.drawing.film import (
    Cell,
    Change,
    Film,
    Heat,
    Lane,
    Lanes,
    Number,
    Patch,
    Rect,
)
from widgets.common.player import StepPlayer
from widgets.common.theme import STATES

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>player</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="player.css">
<body data-jp-theme-light="true"><main></main><script type="module">
import player from "./player.js";
window.mount = (state) => {
  const listeners = {};
  const emit = (name) => (listeners[name] ?? []).forEach((act) => act());
  window.model = {
    saved: 0,
    get: (key) => state[key],
    set: (key, value) => {
      if (state[key] === value) return;
      state[key] = value;
      emit(`change:${key}`);
    },
    save_changes: () => window.model.saved++,
    on: (name, act) => (listeners[name] ??= []).push(act),
    off: (name, act) => (listeners[name] = (listeners[name] ?? []).filter((one) => one !== act)),
  };
  window.unmount = player.render({ model: window.model, el: document.querySelector("main") });
};
</script></body></html>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("player")
    (folder / "index.html").write_text(PAGE, encoding="utf-8")
    (folder / "player.js").write_text(str(StepPlayer._esm), encoding="utf-8")
    (folder / "player.css").write_text(str(StepPlayer._css), encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


Mount = Callable[..., Page]


@pytest.fixture
def mount(browser: Browser, site: str) -> Iterator[Mount]:
    """`mount(film, step=0, **traits)`: a page that plays it; it fails on any error."""
    errors: list[str] = []
    contexts = []

    def open_page(film: Film, step: int = 0, motion: str = "reduce", **traits: object) -> Page:
        context = browser.new_context(
            viewport={"width": 1280, "height": 900}, reduced_motion=motion
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(site)
        state = StepPlayer(film, step=step, **traits).get_state()
        keys = ("film", "step", "rate", "loop")
        page.wait_for_function("window.mount !== undefined")
        page.evaluate("mount", json.loads(json.dumps({key: state[key] for key in keys})))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors


def growth(tokens: list[str]) -> Film:
    n = len(tokens)
    cells = tuple(
        Cell(token, (*free, Change(i, "computed"), Change(i + 1, "read")), link=f"t{i}")
        for i, token in enumerate(tokens)
        for free in [(Change(0, "free"),) if i else ()]
    )
    patches = [Patch(0, Rect(0, 0, 4, n), 0)]
    for i in range(n):
        patches += [Patch(i, Rect(0, i - 1, 4, 1), 1)] if i else []
        patches.append(Patch(i, Rect(0, i, 4, 1), 2))
    links = tuple(f"t{i}" for i in range(n))
    return Film(
        title="Growth",
        captions=tuple(f"Caption {i + 1}." for i in range(n)),
        panels=(
            Lanes((Lane("with cache", cells),)),
            Heat(
                4,
                n,
                tuple(patches),
                ("free", "read", "computed"),
                column_links=links,
                row_title="layer",
                column_title="position",
                sweep="down",
            ),
        ),
        numbers=(Number("stored", tuple(str(i + 1) for i in range(n)), "computed"),),
    )


TOKENS = ["Once", "upon", "a", "time", ",", "there", "was", "a", "little", "girl"]


def position(page: Page) -> str:
    return page.inner_text(".position")


def states(page: Page) -> list[str | None]:
    cells = page.locator(".lanes .cell")
    return [cells.nth(i).get_attribute("data-state") for i in range(cells.count())]


def test_an_echo_of_an_earlier_step_takes_no_key_back(mount: Mount) -> None:
    """Python answers step 1 only after the reader's next key."""
    page = mount(growth(TOKENS))
    page.press(".player", "ArrowRight")
    page.wait_for_function("model.saved === 1")
    page.press(".player", "ArrowRight")
    page.evaluate("model.set('step', 1)")
    assert position(page) == "step 3 / 10"
    page.wait_for_function("model.saved === 2")
    assert page.evaluate("model.get('step')") == 2


def test_keys_step_and_jump(mount: Mount) -> None:
    page = mount(growth(TOKENS))
    page.focus(".player")
    seen = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(int(position(page).split()[1]))
    assert seen == [2, 3, 2, 10, 10, 1, 1]
    assert states(page) == ["computed"] + ["free"] * 9


def test_every_way_to_a_step_shows_the_same(mount: Mount) -> None:
    page = mount(growth(TOKENS), step=3)
    shown = page.inner_html(".panels"), page.inner_text(".caption"), page.inner_text(".value")
    page.focus(".player")
    for key in ("End", "ArrowLeft", "Home", *["ArrowRight"] * 3):
        page.keyboard.press(key)
    again = page.inner_html(".panels"), page.inner_text(".caption"), page.inner_text(".value")
    assert again == shown
    assert states(page)[2:5] == ["read", "computed", "free"]


def test_scrubbing_and_buttons(mount: Mount) -> None:
    page = mount(growth(TOKENS))
    page.locator(".scrub").fill("6")
    assert position(page) == "step 7 / 10"
    page.click("button.ArrowLeft")
    assert position(page) == "step 6 / 10"
    page.click("button.End")
    assert position(page) == "step 10 / 10"


def test_space_plays_to_the_end_and_the_step_reaches_python(mount: Mount) -> None:
    page = mount(growth(TOKENS), rate=25)
    page.focus(".player")
    page.keyboard.press("Space")
    assert page.get_attribute("button.play", "aria-label") == "Pause"
    page.wait_for_function("model.get('step') === 9")
    page.wait_for_selector("button.play[aria-label=Play]")
    page.wait_for_function("model.saved > 0")
    assert page.evaluate("model.saved") < 9  # throttled


def test_loop_is_shared(mount: Mount) -> None:
    page = mount(growth(TOKENS))
    page.click("button.loop")
    assert page.evaluate("model.get('loop')") is True
    assert page.get_attribute("button.loop", "aria-pressed") == "true"


def test_sizes_follow_the_page(mount: Mount) -> None:
    page = mount(growth(TOKENS))
    size = "getComputedStyle(document.querySelector('.player')).fontSize"
    assert page.evaluate(size) == "14px"
    page.evaluate("document.body.style.setProperty('--jp-content-font-size1', '17px')")
    assert page.evaluate(size) == "21.5px"


def test_only_the_last_rounds_are_shown(mount: Mount) -> None:
    lanes = tuple(
        Lane(f"round {r}", (Cell("a", (Change(r, "guess"),)),), start=r) for r in range(9)
    )
    page = mount(Film("Rounds", ("One.",) * 9, (Lanes(lanes, recent=3),)), step=1)
    rounds = "[...document.querySelectorAll('.lane')].filter(lane => lane.checkVisibility())"
    shown = f"{rounds}.map(lane => lane.querySelector('b').textContent)"
    assert page.evaluate(shown) == ["round 0", "round 1", "round 2"]  # the third has its place
    assert page.locator(".lane.absent").count() == 7
    page.locator(".scrub").fill("7")
    assert page.evaluate(shown) == ["round 5", "round 6", "round 7"]


def test_python_moves_the_player(mount: Mount) -> None:
    page = mount(growth(TOKENS))
    page.evaluate("model.set('step', 4)")
    assert position(page) == "step 5 / 10"


def test_pointing_tells_who_wrote_a_cell_and_lights_its_links(mount: Mount) -> None:
    page = mount(growth(TOKENS), step=5)
    page.hover(".lanes .cell >> nth=2")
    assert page.inner_text(".tip").split("\n") == ["a", "read from the cache, written in step 3"]
    assert page.locator(".heat .area:visible").count() == 1
    page.hover(".heat canvas", position={"x": 5, "y": 5})
    assert "written in step 1" in page.inner_text(".tip")
    assert page.locator(".lanes .cell.lit").inner_text() == "Once"
    page.hover(".caption")
    assert page.locator(".tip").is_hidden()
    assert page.locator(".lit").count() == 0


def test_an_origin_is_named_and_connected(mount: Mount) -> None:
    guess = Cell("was", (Change(0, "rejected"),), link="guess")
    token = Cell("had", (Change(0, "resampled", origin="guess"),), arrow=True)
    page = mount(Film("One round", ("Rejected.",), (Lanes((Lane("round 1", (guess, token)),)),)))
    page.hover(".lanes .cell[data-state=resampled]")
    assert "comes from “was”" in page.inner_text(".tip")
    assert page.locator(".wire path").count() == 1
    assert page.locator(".cell.lit").inner_text() == "was"


def test_cells_are_reached_by_keyboard(mount: Mount) -> None:
    page = mount(growth(TOKENS), step=9)
    page.focus("button.loop")  # the last of the player's own
    page.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.ariaLabel") == "a, read from the cache"
    assert page.locator(".lanes .cell[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    assert position(page) == "step 3 / 10"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.classList.contains('player')")
    page.focus(".heat .stage")
    page.keyboard.press("ArrowRight")
    assert "layer 0" in page.inner_text(".tip")


def test_the_live_region_waits_until_the_player_rests(mount: Mount) -> None:
    page = mount(growth(TOKENS), rate=10)
    page.evaluate("""() => {
      window.said = [];
      const live = document.querySelector("[aria-live]");
      new MutationObserver(() => said.push(live.textContent)).observe(live, { childList: true });
    }""")
    page.click("button.play")
    page.wait_for_selector("button.play[aria-label=Play]")
    page.wait_for_function("said.length > 0")
    assert page.evaluate("said") == ["step 10 of 10. Caption 10."]


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_motion_only_where_wanted(mount: Mount, motion: str, moves: bool) -> None:
    page = mount(growth(TOKENS), motion=motion)
    page.focus(".player")
    page.keyboard.press("ArrowRight")
    count = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
      done(document.querySelector(".lanes").getAnimations({ subtree: true }).length))))"""
    assert bool(page.evaluate(count)) == moves


def test_colours_follow_the_theme(mount: Mount) -> None:
    page = mount(growth(TOKENS))
    colour = """() => [
      getComputedStyle(document.querySelector(".lanes .cell")).backgroundColor,
      [...document.querySelector("canvas").getContext("2d").getImageData(0, 0, 1, 1).data],
    ]"""
    for light in (True, False):
        page.evaluate(f"document.body.dataset.jpThemeLight = '{str(light).lower()}'")
        page.wait_for_timeout(100)
        fill = STATES["computed"].tone(not light).fill
        red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
        expected = [f"rgb({red}, {green}, {blue})", [red, green, blue, 255]]
        assert page.evaluate(colour) == expected


def test_odd_tokens_are_text(mount: Mount) -> None:
    odd = [
        "\n",
        "a\tb",
        "  ",
        "",
        "🎈",
        "<img src=x onerror=alert(1)>",
        "שלום",
        "x" * 200,
        "\u202e",
    ]
    film = growth(odd)
    page = mount(film)
    page.focus(".player")
    page.keyboard.press("End")
    assert page.locator("main img, main script, main b b").count() == 0
    assert page.get_by_label("<img src=x onerror=alert(1)>, read from the cache").count() == 1
    assert page.get_by_label("newline, read from the cache").count() == 1
    assert page.locator(".mark").count() == 4
    wide = "[...document.querySelectorAll('.lanes .cell')].map((cell) => cell.offsetWidth)"
    assert max(page.evaluate(wide)) < 300


def test_no_steps_and_one_step(mount: Mount) -> None:
    page = mount(Film("Empty", (), ()))
    assert page.inner_text(".caption") == "Nothing to show: this run has no steps."
    assert page.locator("button").count() == 0
    page = mount(growth(["one"]))
    page.focus(".player")
    for key in ("ArrowRight", "Space", "End"):
        page.keyboard.press(key)
    assert position(page) == "step 1 / 1"


def test_another_film_replaces_the_first_and_unmounting_stops_it(mount: Mount) -> None:
    page = mount(growth(TOKENS), step=9)
    other = StepPlayer(growth(TOKENS[:3])).get_state()["film"]
    page.evaluate("film => model.set('film', film)", json.loads(json.dumps(other)))
    assert page.locator(".player").count() == 1
    assert position(page) == "step 3 / 3"
    page.evaluate("unmount()")
    page.evaluate("model.set('step', 0)")
    assert position(page) == "step 3 / 3"


@pytest.mark.parametrize("key", ["ArrowRight", "ArrowLeft"])
def test_a_step_of_a_long_film_touches_no_more_than_that_of_a_short_one(
    mount: Mount, key: str
) -> None:
    """What makes keys fast, said without a clock: the rest of the page stays as it is."""
    touched = """key => {
      const watch = new MutationObserver(() => {});
      const root = document.querySelector(".player");
      const all = { subtree: true, childList: true, attributes: true, characterData: true };
      watch.observe(root, all);
      root.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      const changes = watch.takeRecords().length;
      return [changes, root.querySelectorAll("*").length];
    }"""
    (short, few), (long, many) = (
        mount(growth([TOKENS[i % 10] for i in range(n)]), step=20).evaluate(touched, key)
        for n in (48, 400)
    )
    assert many > 3 * few
    assert 0 < long == short < few / 2


@pytest.mark.parametrize("rate", [5, 50])
def test_it_plays_as_many_steps_a_second_as_asked(mount: Mount, rate: int) -> None:
    """By a clock that the test moves."""
    page = mount(growth(TOKENS), rate=rate, loop=True)
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    page.evaluate("""() => {
      window.steps = 0;
      new MutationObserver(() => window.steps++).observe(
        document.querySelector(".position"), { childList: true });
      document.querySelector("button.play").click();
    }""")
    page.clock.run_for(2000)
    assert page.evaluate("window.steps") == pytest.approx(2 * rate, abs=2)
