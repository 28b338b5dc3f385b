"""The source view shows the library's own lines, and refuses what it cannot show."""

import inspect
from html.parser import HTMLParser

import pytest

from minillm.decoding import decode_cached
from minillm.kv_cache import KVCache
from minillm.transformer import Transformer
from widgets.common.source import listing, source


class _Text(HTMLParser):
    text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_lines_are_the_librarys() -> None:
    shown = listing(KVCache.append, ["keys[:, :, S - T : S] = k"])
    real = inspect.getsource(KVCache.append)
    assert [line.strip() for line in shown.lines] == [x.strip() for x in real.splitlines()]
    assert (shown.name, shown.file) == ("KVCache.append", "minillm/kv_cache.py")
    assert shown.lines[0].startswith("def append(")
    assert [shown.lines[i].strip() for i in shown.keys] == ["keys[:, :, S - T : S] = k"]
    file = inspect.getsource(inspect.getmodule(KVCache))  # type: ignore[arg-type]
    assert shown.lines[0] in file.splitlines()[shown.start - 1]


def test_text_names_function_file_and_key_lines() -> None:
    view = source(KVCache.advance, ["self.lengths ="])
    key = "    self.lengths = tuple(length + count for length in self._previous)"
    expected = f"KVCache.advance in minillm/kv_cache.py\n{key}"
    data, _ = view.outputs()
    assert data["text/plain"] == view.summary() == expected
    assert "<img" not in data["text/html"]


def test_html_holds_every_line_marked_and_escaped() -> None:
    def compare(a: int, b: int) -> str:
        """A docstring
        of two lines with <b>tags</b>.
        """
        return "<script>" if a < b else f"{a} & {b}"

    shown = listing(compare, ["return"])
    page = shown.html()
    assert page.count('class="card-line') == len(shown.lines) == 5
    assert page.count("card-key") == 1
    for html in (page, shown.plain()):
        assert "<script>" not in html
        assert "<b>tags" not in html
        reader = _Text()
        reader.feed(html)
        assert '"<script>" if a < b else f"{a} & {b}"' in reader.text


def test_it_can_be_folded() -> None:
    assert "<details open>" in source(KVCache.advance).html
    assert "<details>" in source(KVCache.advance, folded=True).html


def test_a_key_line_that_has_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no line that contains 'self\.length_of'"):
        listing(KVCache.advance, ["self.length_of"])


def test_long_code_is_refused() -> None:
    with pytest.raises(ValueError, match=r"KVCache has \d+ lines, at most 50"):
        listing(KVCache)
    assert len(listing(decode_cached).lines) <= 50
    assert len(listing(Transformer.hidden).lines) <= 50


def test_what_has_no_source_is_refused() -> None:
    with pytest.raises(TypeError):
        listing(len)
