"""README's picture, the flagship of lesson 02 as it plays: python tests/browser/picture.py."""

from pathlib import Path

from lab import opened

PICTURE = Path(__file__).parents[2] / ".github" / "explorer.png"


def main() -> None:
    with opened("player") as (lesson, _):
        lesson.page.set_viewport_size({"width": 1440, "height": 1600})
        player = lesson.page.locator(".minillm.player")
        player.press("End")
        player.press("ArrowLeft")
        lesson.page.wait_for_timeout(1000)  # until nothing moves
        lesson.screenshot(PICTURE, player)


if __name__ == "__main__":
    main()
