// The player's pure functions. What needs a page is tested in tests/browser/test_player_in_browser.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { at, clamp, Field, fill, joined, pieces } from "../../widgets/common/player/player.js";

const SOURCE = new URL("../../widgets/common/player/player.js", import.meta.url);
const base64 = (bytes) => Buffer.from(bytes).toString("base64");

test("at finds the last entry not after a step, from any start", () => {
  const history = [[0, "free"], [3, "computed"], [4, "read"]];
  const expected = [0, 0, 0, 1, 2, 2];
  for (let near = -1; near < 5; near++) {
    expected.forEach((index, step) => assert.equal(at(history, step, near), index));
  }
});

test("at is -1 before the first entry and for an empty history", () => {
  assert.equal(at([[2, "x"]], 1), -1);
  assert.equal(at([], 5), -1);
});

test("fill puts values in for names", () => {
  assert.equal(fill("{unit} {step} of {steps}", { unit: "pass", step: 0, steps: 9 }), "pass 0 of 9");
});

test("clamp keeps a value between zero and the most", () => {
  assert.deepEqual([-Infinity, 2, Infinity].map((v) => clamp(v, 5)), [0, 2, 5]);
});

test("pieces marks newlines, tabs and tokens of spaces, and nothing else", () => {
  assert.deepEqual(pieces("a\n\tb"), [["text", "a"], ["newline", "\n"], ["tab", "\t"], ["text", "b"]]);
  assert.deepEqual(pieces("  "), [["space", " "], ["space", " "]]);
  assert.deepEqual(pieces(" a b"), [["text", " a b"]]);
  assert.deepEqual(pieces("<b>&amp;"), [["text", "<b>&amp;"]]);
  assert.deepEqual(pieces(""), []);
});

// Two rows, three columns: all free; then in each step one column is computed and rests after.
const slots = {
  rows: 2,
  columns: 3,
  states: ["free", "read", "computed"],
  patches: [
    [0, 0, 0, 2, 3, 0], [0, 0, 0, 2, 1, 2],
    [1, 0, 0, 2, 1, 1], [1, 0, 1, 2, 1, 2],
    [2, 0, 1, 2, 1, 1], [2, 0, 2, 2, 1, 2],
  ],
};

test("a field is the same however a step is reached", () => {
  const expected = [[2, 0, 0, 2, 0, 0], [1, 2, 0, 1, 2, 0], [1, 1, 2, 1, 1, 2]];
  const field = new Field(slots, ["computed"]);
  for (const step of [0, 1, 2, 1, 0, 2, 0]) {
    field.seek(step);
    assert.deepEqual([...field.bytes], expected[step], `step ${step}`);
  }
});

test("a slot remembers the step that wrote it, also when it is read later", () => {
  const field = new Field(slots, ["computed"]);
  field.seek(2);
  assert.deepEqual([...field.written.slice(0, 3)], [0, 1, 2]);
  field.seek(0);
  assert.equal(field.written[0], 0);
});

test("seek says which rows may have changed", () => {
  const patches = [[0, 0, 0, 4, 3, 0], [1, 1, 0, 1, 2, 1], [3, 2, 1, 2, 2, 1]];
  const field = new Field({ rows: 4, columns: 3, patches, states: ["free", "read"] }, []);
  assert.deepEqual([0, 0, 1, 2, 3, 1, 3, 0].map((step) => field.seek(step)),
    [[0, 4], null, [1, 2], null, [2, 4], [2, 4], [2, 4], [1, 4]]);
});

test("bars that touch are one, but not those of two series", () => {
  const bars = [[0, 0, 1, "a"], [1, 1, 3, "a"], [2, 3, 4, "b"], [3, 5, 6, "b"]];
  assert.deepEqual(joined(bars), [[0, 0, 3, "a"], [2, 3, 4, "b"], [3, 5, 6, "b"]]);
  assert.deepEqual(joined([]), []);
});

test("numbers come as base64 and fill their area row by row", () => {
  const field = new Field({ rows: 2, columns: 3, patches: [[1, 0, 1, 2, 2, base64([7, 8, 9, 255])]] }, []);
  field.seek(0);
  assert.deepEqual([...field.bytes], Array(6).fill(255));
  field.seek(1);
  assert.deepEqual([...field.bytes], [255, 7, 8, 255, 9, 255]);
});

test("the module is small, alone, and offline", () => {
  const source = readFileSync(SOURCE, "utf8");
  assert.ok(Buffer.byteLength(source) < 36 * 1024);
  assert.doesNotMatch(source, /\bimport\b|\bfetch\b|innerHTML|outerHTML|insertAdjacentHTML/);
  assert.deepEqual(source.match(/https?:\/\/[^"]+/g), ["http://www.w3.org/2000/svg"]);
});
