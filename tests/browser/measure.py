"""How fast the explorers answer, in JupyterLab on this machine: python tests/browser/measure.py.

For the key/value film with 24, 48 and 512 tokens: the time a key takes in the player's handler, the
time until its frame is painted, and the frames held in a second of playing at 50 a second. For two
charts: the time from a key on a slider, over the kernel, to the new picture. Then the size of the
saved notebook, and the time from a key to its paint on a bare page beside it.
"""

import os
from statistics import median
from typing import Any

from explorers import EXPLORERS
from lab import LabPage, opened
from playwright.sync_api import Locator, Page

TOKENS = (24, 48, 512)
KEYS = ["ArrowRight", "ArrowRight", "End", "ArrowLeft", "ArrowLeft", "Home"] * 3

# A frame is painted when a task runs after its animation callbacks.
PAINTED = """const painted = () => new Promise(done => requestAnimationFrame(() => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => done(performance.now());
    port2.postMessage(0);
}));"""

PRESS = """async (player, key) => {
    PAINTED
    const start = performance.now();
    player.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    const handled = performance.now();
    return [handled - start, await painted() - start];
}""".replace("PAINTED", PAINTED)

PLAY = """async player => {
    const counts = [0, 0];
    const watch = new MutationObserver(() => counts[0]++);
    watch.observe(player.querySelector(".position"), {childList: true});
    const start = performance.now();
    player.querySelector("button.play").click();
    while (performance.now() - start < 1000) {
        await new Promise(requestAnimationFrame);
        counts[1]++;
    }
    player.querySelector("button.play").click();
    watch.disconnect();
    return counts;
}"""

# From the key's own time, so that the way to the page does not count.
WATCH = """chart => {
    PAINTED
    window.changed = new Promise(done => {
        let pressed;
        chart.addEventListener("keydown", event => { pressed = event.timeStamp; },
            {once: true, capture: true});
        const watch = new MutationObserver(async () => {
            watch.disconnect();
            done(await painted() - pressed);
        });
        watch.observe(chart.querySelector(".main-svg .cartesianlayer"),
            {subtree: true, childList: true, attributes: true});
    });
}""".replace("PAINTED", PAINTED)


def measure_player(player: Locator) -> dict[str, Any]:
    player.scroll_into_view_if_needed()
    times = [player.evaluate(PRESS, key) for key in KEYS]
    player.locator("select").select_option("50")
    player.locator("button.loop").click()
    plays = [player.evaluate(PLAY) for _ in range(3)]
    handler, painted = zip(*times, strict=True)
    return {"handler": handler, "painted": painted, "plays": plays}


def measure_slider(lab: LabPage, chart: Locator) -> list[float]:
    """Milliseconds from a key on the chart's first slider to the new picture."""
    handle = chart.get_by_role("slider").first
    handle.scroll_into_view_if_needed()
    times = []
    for key in ["ArrowRight", "ArrowLeft"] * 6:
        chart.evaluate(WATCH)
        handle.press(key)
        times.append(lab.page.evaluate("() => window.changed"))
        lab.wait_idle()
    return times[2:]  # the first ones warm up


def measure_bare(page: Page) -> float:
    """Milliseconds from a key to its paint on a page of one line: what the machine allows."""
    page.set_content("<div onkeydown='this.textContent = event.key'>bare</div>")
    div = page.locator("div")
    return median(div.evaluate(PRESS, key)[1] for key in KEYS)


def main() -> None:
    EXPLORERS.update({f"player {n}": f"growth({n})" for n in TOKENS})
    names = [*(f"player {n}" for n in TOKENS), "capacity", "distribution"]
    with opened(*names) as (lesson, path):
        page = lesson.page
        page.wait_for_selector(".minillm.chart .main-svg")
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for tokens, player in zip(TOKENS, page.locator(".minillm.player").all(), strict=True):
            found = measure_player(player)
            print(
                f"{tokens:3} tokens: key handler {median(found['handler']):.1f} ms "
                f"(worst of {len(KEYS)}: {max(found['handler']):.1f}), "
                f"painted after {median(found['painted']):.1f} ms "
                f"(worst {max(found['painted']):.1f}); playing at 50/s shows "
                + ", ".join(f"{steps} steps in {frames} frames"
                            for steps, frames in found["plays"])
            )  # fmt: skip
        for chart in page.locator(".minillm.chart").all():
            times = measure_slider(lesson, chart)
            title = chart.locator(".gtitle").first.text_content()
            print(f"{title}: key to picture {median(times):.0f} ms (worst {max(times):.0f})")
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        print(f"saved notebook with {len(names)} explorers: {path.stat().st_size:,} bytes")
        bare = page.context.new_page()
        print(f"a bare page: painted after {measure_bare(bare):.1f} ms")


if __name__ == "__main__":
    main()
