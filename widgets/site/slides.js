// Slides and questions of a lesson's page, over a recorded run (site.js) and over a kernel
// (live.html.j2): an answer waits behind its question, and keys turn slides.

(() => {
  const { words } = (globalThis.minillm ??= {});
  const root = document.documentElement;

  // Questions: what holds an answer is hidden until its question is locked, or passed over.

  const passed = new Set();
  const waiting = (key) => document.querySelectorAll(`[data-gates~="${key}"]`);

  function open(key) {
    passed.add(key);
    document.querySelector(`[data-asks="${key}"] .site-gate`)?.remove();
    for (const cell of waiting(key)) {
      cell.classList.toggle("passed", cell.dataset.gates.split(" ").every((gate) => passed.has(gate)));
    }
  }

  function ask(cell) {
    const key = cell.dataset.asks;
    const line = document.createElement("p");
    const skip = document.createElement("button");
    line.className = "site-gate";
    skip.className = "site-skip";
    skip.type = "button";
    skip.textContent = words.skip;
    skip.addEventListener("click", () => open(key));
    line.append(`${words.gate} `, skip);
    if (waiting(key).length) cell.append(line);
    cell.addEventListener("locked", () => open(key));
  }
  for (const cell of document.querySelectorAll("[data-asks]")) ask(cell);

  // Slides: a cell with a heading, an output or a takeaway is one; the prose after it are its notes.
  // A heading below prose begins the next slide, and so does what is drawn below print.

  const SHOWN = "h1, h2, h3, .site-output";
  const PRINT = ":has(> pre, > .jp-RenderedText)"; // of the site's and of Voila's
  const NEXT = `:scope > :not(h1, h2, h3) + :is(h2, h3),
    :scope > .site-output${PRINT} + .site-output:not(${PRINT})`;
  const isSlide = (cell) => cell.querySelector(SHOWN)
    || cell.querySelector("p > strong:first-child")?.parentElement === cell.firstElementChild;

  function split(cell) {
    for (const start of [...cell.querySelectorAll(NEXT)].reverse()) {
      const rest = cell.cloneNode();
      rest.removeAttribute("id");
      const range = document.createRange();
      range.setStartBefore(start);
      range.setEndAfter(cell.lastChild);
      rest.append(range.extractContents());
      cell.after(rest);
    }
  }

  function slides() {
    document.querySelectorAll(".site-cell").forEach(split);
    const deck = [];
    for (const cell of document.querySelectorAll(".site-cell")) {
      if (isSlide(cell)) deck.push([cell]);
      else deck.at(-1)?.push(cell);
    }
    const place = document.getElementById("slide");
    let at = -1;
    const closed = ([cell]) => cell.dataset.gates && !cell.classList.contains("passed");
    const go = (to) => {
      const last = deck.findIndex(closed) - 1; // the question that is open
      at = Math.max(0, Math.min(to, last < 0 ? deck.length - 1 : last));
      deck.forEach((cells, i) => cells.forEach((cell, k) => {
        cell.classList.toggle("shown", i === at);
        cell.classList.toggle("notes", k > 0);
      }));
      place.textContent = `${at + 1} / ${deck.length}`;
      history.replaceState(null, "", `#slide-${at + 1}`);
      scrollTo(0, 0);
      dispatchEvent(new Event("resize")); // a chart that was hidden takes its width
    };
    const enter = (on, to = 0) => {
      root.classList.toggle("slides", on);
      if (on) go(to);
      else history.replaceState(null, "", location.pathname);
    };
    const moves = {
      ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1, Home: -Infinity, End: Infinity,
    };
    document.getElementById("slides").addEventListener("click", (event) => {
      enter(!root.classList.contains("slides"));
      event.currentTarget.blur(); // else Space presses it
    });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") document.activeElement.blur(); // from a widget back to the slides
    }, true);
    document.addEventListener("keydown", (event) => {
      const { key, target, altKey, ctrlKey, metaKey } = event;
      if (!root.classList.contains("slides") || altKey || ctrlKey || metaKey) return;
      if (target.closest("input, select, textarea, .minillm")) return; // these keys are theirs
      if (key in moves) {
        event.preventDefault(); // else the page scrolls as well
        go(at + moves[key]);
      }
      if (key === "n") root.classList.toggle("with-notes");
      if (key === "c") root.classList.toggle("with-code");
    });
    const start = /^#slide-(\d+)$/.exec(location.hash);
    if (start) enter(true, start[1] - 1);
  }

  Object.assign(globalThis.minillm, { open, slides });
})();
