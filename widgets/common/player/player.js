// The step player. Python sends one film (see film.py); all else happens here. What varies is a
// history [[step, value ...], ...]; a view touches the DOM only when its entry changes. Texts from
// the film are never parsed as HTML.

const RATES = [1, 2, 5, 10, 25, 50];
const BLANK = 255;
const FLAT = 3; // a heat map's cell is at most so many times as wide as high
const FAINT = 0.04; // a weight below it has no arc
const DENSE = 96; // a lane of more cells shows them as small squares
const UNSEEN = { "aria-hidden": true };
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const JUMPS = {
  Home: -Infinity, ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, End: Infinity,
};

// ---- pure functions

/** Index of the last entry not after `step`, or -1; the search starts at `near`. */
export function at(history, step, near = 0) {
  let i = Math.min(near, history.length - 1);
  while (i + 1 < history.length && history[i + 1][0] <= step) i++;
  while (i >= 0 && history[i][0] > step) i--;
  return i;
}

/** "{unit} {step}" with its names filled in. */
export function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function clamp(value, most) {
  return Math.max(0, Math.min(most, value));
}

/** A token as [kind, text] pairs; kind is "text" or a white space to be made visible. */
export function pieces(text) {
  if (/^ +$/.test(text)) return [...text].map(() => ["space", " "]);
  const kinds = { "\n": "newline", "\t": "tab" };
  return text.split(/([\n\t])/).filter(Boolean).map((part) => [kinds[part] ?? "text", part]);
}

/** The bytes of a base64 text. */
function bytesOf(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** The bytes of a heat map at any step, and the step that wrote each. */
export class Field {
  constructor({ rows, columns, patches, states = [] }, events) {
    this.columns = columns;
    this.patches = patches.map(([step, row, column, height, width, values]) => [
      step, row, column, width,
      typeof values === "number" ? new Uint8Array(height * width).fill(values) : bytesOf(values)]);
    this.rests = states.map((state) => !events.includes(state));
    this.bytes = new Uint8Array(rows * columns).fill(BLANK);
    this.written = new Int32Array(rows * columns).fill(-1);
    this.done = 0; // patches applied
  }

  /** Goes to `step`; returns the rows that may have changed, [from, up to], or null. */
  seek(step) {
    const { patches, done } = this;
    if (patches[done - 1]?.[0] > step) {
      this.bytes.fill(BLANK);
      this.written.fill(-1);
      this.done = 0;
    }
    while (patches[this.done]?.[0] <= step) this.apply(patches[this.done++]);
    const moved = patches.slice(Math.min(done, this.done), Math.max(done, this.done));
    return moved.length ? moved.reduce(([from, end], [, row, , width, values]) =>
      [Math.min(from, row), Math.max(end, row + values.length / width)], [Infinity, 0]) : null;
  }

  apply([step, row, column, width, values]) {
    for (let i = 0; i < values.length; i += width) {
      const start = (row + i / width) * this.columns + column;
      this.bytes.set(values.subarray(i, i + width), start);
      // A slot that comes to rest was written earlier.
      if (!this.rests[this.bytes[start]]) this.written.fill(step, start, start + width);
    }
  }
}

// ---- small helpers

function fit(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const make = (tag, name = "", attributes = {}, ...children) =>
  fit(document.createElement(tag), name ? { class: name, ...attributes } : attributes, children);

const draw = (tag, attributes, ...children) =>
  fit(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const icon = (path) =>
  draw("svg", { viewBox: "0 0 16 16", ...UNSEEN }, draw("path", { d: path }));

/** Writes a token into `node`, its white space as marks. */
function write(node, text) {
  node.replaceChildren(...pieces(text).map(([kind, part]) =>
    kind === "text" ? part : make("i", "mark", { "data-mark": kind })));
  return node;
}

/** A token in words, for screen readers. */
function spoken(text, words) {
  return pieces(text).map(([kind, part]) => words[kind] ?? part).join(" ") || words.nothing;
}

/** 255 canvas pixels along a list of CSS colours. */
function ramp(colours) {
  const pen = make("canvas", "", { width: 255, height: 1 }).getContext("2d");
  const scale = pen.createLinearGradient(0, 0, 255, 0);
  colours.forEach((colour, i) => scale.addColorStop(i / (colours.length - 1 || 1), colour));
  pen.fillStyle = scale;
  pen.fillRect(0, 0, 255, 1);
  return new Uint32Array(pen.getImageData(0, 0, 255, 1).data.buffer);
}

/** Calls `show(entry)` when the entry in force changes. */
function follow(history, show) {
  let shown = null;
  return (step) => {
    const i = at(history, step, shown ?? 0);
    if (i !== shown) show(history[i], i);
    shown = i;
  };
}

/** The page does not act on this key as well. */
function ours(event) {
  event.preventDefault();
  event.stopPropagation();
}

const textOf = (node) => (entry) => {
  node.textContent = entry?.[1] ?? "";
};

// ---- cells

class CellView {
  constructor(cell, player, rows, r, c) {
    Object.assign(this, { cell, player, rows, r, c, index: null });
    this.label = make("bdi", "token");
    this.node = make("div", cell.detail ? "cell tall" : "cell", { role: "gridcell", tabindex: r || c ? -1 : 0 }, this.label);
    if (cell.detail) this.node.append(make("span", "detail", {}, cell.detail));
    // Room for its longest text, so that nothing moves.
    this.node.style.setProperty("--ch", cell.width);
    player.cells.set(this.node, this);
    if (cell.link) player.link(cell.link, this);
  }

  /** Shows the cell at `step`; returns whether it changed. */
  show(step) {
    const { history } = this.cell;
    const index = at(history, step, this.index ?? 0);
    if (index === this.index) return false;
    this.index = index;
    const { words, labels } = this.player.film;
    const [, state, { text = this.cell.text, ghost = false, origin } = {}] = history[index] ?? [];
    if (text !== this.text) write(this.label, text);
    Object.assign(this, { state, text, origin });
    this.node.dataset.state = state ?? "";
    this.node.classList.toggle("ghost", ghost);
    this.node.ariaLabel = this.empty ? labels[state] ?? words.blank
      : `${spoken(text, words)}, ${labels[state]}`;
    return true;
  }

  get empty() {
    return !this.state || this.state === "free";
  }

  /** The step that wrote what the cell holds: its last event. */
  get written() {
    const { cell, index, player } = this;
    return cell.history.slice(0, index + 1).findLast((e) => player.film.events.includes(e[1]))?.[0];
  }

  /** What pointing at it tells. */
  get about() {
    const { film, links } = this.player;
    if (!this.state) return {};
    let now = film.labels[this.state];
    if (this.written !== undefined) now += `, ${this.player.said("written", this.written)}`;
    const from = links.get(this.origin)?.[0].text;
    const source = from && fill(film.words.from, { text: spoken(from, film.words) });
    const title = this.empty ? "" : spoken(this.text, film.words);
    return { tip: [title, now, source, this.cell.tip], origin: this.origin };
  }

  lit(on) {
    this.node.classList.toggle("lit", on);
  }

  box() {
    return this.node.getBoundingClientRect();
  }
}

/** A table of cells with one tab stop; arrows move the focus within. */
function table(name, panel, player, rows) {
  const views = [];
  rows.forEach((row, r) => views.push(row.map((cell, c) => new CellView(cell, player, views, r, c))));
  return [make("div", name, { role: "grid", "aria-label": panel.title ?? player.film.title }), views];
}

// ---- panels: each has a node, a show(step, moving) and perhaps views of cells

function lanesPanel(panel, player) {
  const { lanes, span, recent = lanes.length } = panel;
  const [node, views] = table("lanes", panel, player, lanes.map((lane) => lane.cells ?? []));
  const bars = span > 0;
  node.classList.toggle("both", bars && lanes.some((lane) => lane.cells));
  const shows = lanes.map((lane, r) => {
    const note = make("span", "note");
    const head = make("div", "head", { role: "rowheader" }, make("b", "", {}, lane.label), note);
    const row = make("div", lane.baseline ? "lane baseline" : "lane", { role: "row" }, head);
    row.classList.toggle("line", lane.line ?? false);
    const kind = lane.prose ? " prose" : views[r].length > DENSE ? " dense" : "";
    if (views[r].length) {
      row.append(make("div", `cells${kind}`,
        {}, ...views[r].flatMap((view) =>
          view.cell.arrow ? [make("i", "arrow"), view.node] : [view.node])));
    }
    const track = lane.bars && trackView(lane, panel, player);
    if (track) row.append(track.node);
    node.append(row);
    const tell = follow(lane.notes ?? [], textOf(note));
    return (step, from, end) => {
      row.hidden = r < from || r >= end;
      row.classList.toggle("absent", step < (lane.start ?? 0));
      tell(step);
      track?.show(step);
    };
  });
  if (bars) node.append(make("div", "axis", UNSEEN, "0", make("span", "", {}, panel.end)));
  const show = (step) => {
    const begun = lanes.filter(({ start = 0 }) => start <= step).length;
    const end = Math.min(lanes.length, Math.max(begun, recent));
    shows.forEach((showLane) => showLane(step, end - recent, end));
  };
  return { node, views: views.flat(), show };
}

/** Bars of one series that touch, as one: what the browser paints counts, not what it shows. */
export function joined(bars) {
  return bars.reduce((all, bar) => {
    const [step, start, end, series] = all.at(-1) ?? [];
    if (end !== bar[1] || series !== bar[3]) return [...all, bar];
    all[all.length - 1] = [step, start, bar[2], series];
    return all;
  }, []);
}

/** The bars of one lane on its panel's axis, uncovered as steps go by. */
function trackView({ bars, label }, { span, unit = "" }, player) {
  const percent = (value) => `${(100 * value) / span}%`;
  const dense = bars.length > 64;
  const all = make("div", dense ? "bar-run dense" : "bar-run", {},
    ...(dense ? joined(bars) : bars).map(([, start, end, series]) => make("i", "bar",
      { "data-series": series, style: `left: ${percent(start)}; --length: ${percent(end - start)}` })));
  const node = make("div", "track", { role: "gridcell" }, all);
  const show = follow(bars, (entry) => {
    const end = entry?.[2] ?? 0;
    all.style.clipPath = `inset(0 ${percent(span - end)} 0 0)`;
    node.ariaLabel = fill(player.film.words.axis, { label, end: +end.toPrecision(3), unit });
  });
  return { node, show };
}

function gridPanel(panel, player) {
  const [node, views] = table("text-grid", panel, player, panel.rows);
  const { row_labels: names, column_labels: heads } = panel;
  const line = (name, cells) => {
    const head = names ? [make("span", "number", { role: "rowheader" }, name)] : [];
    node.append(make("div", "row", { role: "row" }, ...head, ...cells));
  };
  if (heads) {
    line("", heads.map((text, c) => make("bdi", "column",
      { role: "columnheader", style: `--ch: ${panel.rows[0][c].width}` }, text)));
  }
  views.forEach((row, r) => line(names?.[r], row.map((view) => view.node)));
  return { node, views: views.flat() };
}

function heatPanel(panel, player) {
  const { rows, columns, states, scale, sweep, sentences } = panel;
  const { film } = player;
  const field = new Field(panel, film.events);
  const tips = sentences && bytesOf(panel.tips);
  const canvas = make("canvas", "", { width: columns, height: rows });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const mark = make("i", "area mark-area", { hidden: "" });
  const cursor = make("i", "area", { hidden: "" });
  const axes = [panel.row_title, panel.column_title].filter(Boolean).join(" × ");
  const stage = make("div", "stage", { role: "img", tabindex: 0, "aria-label": panel.title ?? axes },
    canvas, make("i", "mesh"), mark, cursor);
  const labels = (side, texts = []) => make("div", `labels ${side}`, UNSEEN,
    ...texts.map((text) => write(make("bdi"), text)));
  const left = labels("left", panel.row_labels);
  const node = make("div", "heat", { style: `--rows: ${rows}; --columns: ${columns}` },
    labels("top", panel.column_labels), left, stage,
    make("div", "axes", {}, axes, ...(states ? [] : [make("span", "scale", {}, `${panel.low}`,
      make("i", "", { style: `--scale: var(--${scale})` }), `${panel.high}`)])));
  let palette = null;
  let wide = 1; // of a cell, in pixels
  let tall = 1;
  let here = null; // the cell pointed at

  const place = (box, area) => {
    box.hidden = !area;
    ["row", "column", "rows", "columns"].forEach((k, i) => box.style.setProperty(`--${k}`, area?.[i]));
  };

  const paint = ([from, end] = [0, rows], old = field.bytes, part = 1) => {
    const { bytes } = field;
    const edge = Math.ceil(part * (sweep === "right" ? columns : rows));
    for (let i = from * columns; i < end * columns; i++) {
      const done = sweep === "right" ? i % columns : Math.floor(i / columns);
      const byte = done < edge ? bytes[i] : old[i];
      pixels[i] = byte === BLANK ? 0 : palette[byte];
    }
    pen.putImageData(image, 0, 0, 0, from, columns, end - from);
  };

  /** Cells fill in the order of computation. */
  const fillOn = (changed, old, started = performance.now()) => requestAnimationFrame((now) => {
    const part = clamp((now - started) / 180, 1);
    paint(changed, old, part);
    if (part < 1) fillOn(changed, old, started);
  });

  const outline = follow(panel.marks ?? [], (entry) => place(mark, entry?.[1]));
  /** The row of a link as [links, weight] pairs, from the one that looks to those it looks at. */
  const looks = (name) => {
    const r = (panel.row_links ?? []).indexOf(name);
    const weight = (c) => field.bytes[r * columns + c] / 254;
    return r < 0 ? [] : panel.row_links.map((to, c) => [name, to, weight(c)])
      .filter(([, , w]) => w >= FAINT && w <= 1);
  };

  const show = (step, moving) => {
    const old = sweep && moving && field.bytes.slice();
    outline(step);
    const changed = field.seek(step);
    if (!changed || !palette) return;
    if (old) fillOn(changed, old);
    else paint(changed);
  };

  const retheme = () => {
    const style = getComputedStyle(node);
    const read = (key) => style.getPropertyValue(`--${key}`).trim();
    const solid = (state) => ramp([read(`${state}-fill`)])[0];
    palette = states ? states.map((state) => (state === "free" ? 0 : solid(state)))
      : ramp(read(scale).split(", "));
    paint();
  };

  const resize = () => {
    if (!node.clientWidth) return;
    const style = getComputedStyle(node);
    const em = parseFloat(style.fontSize);
    tall = Math.max(1, Math.floor(Math.min(1.5 * em, (style.getPropertyValue("--high") * em) / rows)));
    node.classList.toggle("no-left", tall < em);
    const room = (node.clientWidth - left.offsetWidth - em / 2) / columns;
    wide = Math.max(1, Math.floor(Math.min(1.5 * em, room, FLAT * tall)));
    node.style.setProperty("--wide", `${wide}px`);
    node.style.setProperty("--tall", `${tall}px`);
    node.classList.toggle("fine", wide < 6);
    node.classList.toggle("no-top", wide < em);
    if (!palette) retheme();
  };

  const tip = ([r, c]) => {
    const i = r * columns + c;
    const byte = field.bytes[i];
    const title = [panel.row_labels?.[r] ?? `${panel.row_title} ${r}`,
      panel.column_labels?.[c] ?? `${panel.column_title} ${c}`];
    let value = film.words.blank;
    if (byte !== BLANK) {
      const number = panel.low + (byte / 254) * (panel.high - panel.low);
      value = states ? film.labels[states[byte]] : `≈ ${+number.toPrecision(2)}`;
      if (field.written[i] >= 0) value += `, ${player.said("written", field.written[i])}`;
    }
    return [title.map((text) => spoken(text, film.words)).join(" · "), value, tips && sentences[tips[i]]];
  };

  const box = (area) => {
    const { left: x, top: y } = canvas.getBoundingClientRect();
    return new DOMRect(x + area[1] * wide, y + area[0] * tall, area[3] * wide, area[2] * tall);
  };

  const point = (r, c) => {
    here = [clamp(r, rows - 1), clamp(c, columns - 1), 1, 1];
    const links = [panel.row_links?.[here[0]], panel.column_links?.[here[1]]];
    player.point({ tip: tip(here), links, box: () => box(here) });
    place(cursor, here);
  };
  const leave = () => {
    here = null;
    place(cursor, null);
    player.leave();
  };
  canvas.onpointermove = ({ offsetX, offsetY }) => {
    const [r, c] = [Math.floor(offsetY / tall), Math.floor(offsetX / wide)];
    if (here?.[0] !== r || here?.[1] !== c) point(r, c);
  };
  canvas.onpointerleave = leave;
  stage.onblur = leave;
  stage.onkeydown = (event) => {
    const move = MOVES[event.key];
    if (!move) return;
    if (here) point(here[0] + move[0], here[1] + move[1]);
    else point(0, 0);
    player.live.textContent = tip(here).filter(Boolean).join(". ");
    ours(event);
  };

  // Rows and columns light up with their links, as cells do.
  const link = (name, area) =>
    player.link(name, { lit: (on) => place(cursor, on ? area : null), box: () => box(area) });
  panel.row_links?.forEach((name, r) => link(name, [r, 0, 1, columns]));
  panel.column_links?.forEach((name, c) => link(name, [0, c, rows, 1]));
  new ResizeObserver(resize).observe(node);
  const outlined = () => {
    const i = at(panel.marks, player.step);
    return panel.row_links[panel.marks[i]?.[1]?.[0]];
  };
  return { node, show, retheme, ...(panel.arcs && { looks, outlined }) };
}

/** A table: a column for each group, a row for each series, in every cell a bar and its number. */
function barsPanel({ series, history, high }, player) {
  const { words, labels } = player.film;
  const title = make("div", "panel-title");
  const most = Math.max(0, ...history.map((e) => e[2].length));
  const node = make("div", "bars", { role: "list", style: `--groups: ${most}` },
    make("div", "group names", UNSEEN, make("bdi", "token"),
      ...series.map((name) => make("span", "bar-name", {}, labels[name]))));
  const groups = Array.from({ length: most }, () => {
    const label = make("bdi", "token");
    const bars = series.map((name) => make("span", "bar-box", {},
      make("i", "", { "data-series": name }), make("small")));
    const group = make("div", "group", { role: "listitem" }, label, ...bars);
    node.append(group);
    return { bars, label, node: group };
  });
  const show = follow(history, (entry) => {
    const [, text, names, values, chosen] = entry ?? [0, "", [], []];
    title.textContent = text;
    groups.forEach(({ node, bars, label }, g) => {
      node.classList.toggle("absent", g >= names.length);
      if (g >= names.length) return;
      node.classList.toggle("chosen", g === chosen);
      write(label, names[g]);
      const numbers = values[g].map((value) => value.toFixed(2));
      bars.forEach((bar, s) => {
        bar.firstChild.style.width = `${clamp((100 * values[g][s]) / high, 100)}%`;
        bar.lastChild.textContent = numbers[s].replace(/^0/, "");
      });
      const parts = series.map((name, s) => `${labels[name]} ${numbers[s]}`);
      node.ariaLabel = `${spoken(names[g], words)}: ${parts.join(", ")}`;
    });
  });
  return { node: make("div", "", {}, title, node), show };
}

const PANELS = { lanes: lanesPanel, grid: gridPanel, heat: heatPanel, bars: barsPanel };

// ---- the player

class Player {
  cells = new Map(); // node -> CellView
  links = new Map(); // name -> everything that lights up together
  lit = [];
  step = null;
  playing = false;
  panels = [];
  gone = new AbortController(); // ends all listeners

  constructor(model, el) {
    this.model = model;
    this.film = model.get("film");
    const { words, title, hint, steps } = this.film;
    this.last = steps - 1; // -1: a film without steps
    this.root = make("section", "minillm player", {
      tabindex: 0, role: "group", "aria-roledescription": words.name, "aria-label": title,
    }, make("div", "title", { role: "heading", "aria-level": 3 }, title), make("div", "hint", {}, hint));
    el.replaceChildren(this.root);
    if (this.last < 0) {
      this.root.append(make("p", "caption", {}, words.empty));
      return;
    }
    this.build();
    this.listen();
    this.choose();
    this.go(model.get("step"));
  }

  build() {
    const { film } = this;
    this.panels = film.panels.map((panel) => PANELS[panel.kind](panel, this));
    this.views = this.panels.flatMap((panel) => panel.views ?? []);
    this.wire = draw("svg", { class: "wire", ...UNSEEN });
    this.arcs = draw("svg", { class: "wire arcs", ...UNSEEN });
    this.looking = this.panels.find((panel) => panel.looks);
    this.stage = make("div", "panels", {}, ...this.panels.map(({ node }, i) => {
      const { title, share, stack } = film.panels[i];
      const wide = share > 7 || node.querySelector(".cells"); // takes a narrow page's whole width
      const head = make("div", "panel-title", {}, ...(title ? [title] : []), ...this.legend(i));
      return make("div", wide ? "panel wide" : "panel", { style: `--share: ${share}; --stack: ${stack}` }, head, node);
    }), this.numbers(), this.wire, this.arcs);
    this.stage.classList.toggle("arched", !!this.looking);
    this.tipBox = make("div", "tip", { role: "tooltip", hidden: "" });
    this.live = make("div", "spoken", { role: "status", "aria-live": "polite" });
    this.caption = make("span");
    const longest = film.captions.reduce((a, b) => (b.length > a.length ? b : a));
    this.root.append(
      make("div", "deck", {}, this.controls(),
        // Room for its longest text, so that nothing moves.
        make("p", "caption", {}, this.caption, make("span", "room", UNSEEN, longest))),
      this.stage, make("div", "spoken", {}, film.words.keys), this.live, this.tipBox);
  }

  numbers() {
    const { numbers, words, tags } = this.film;
    const list = make("div", "numbers",
      { role: "list", "aria-label": words.numbers, style: `--share: ${this.film.aside}` });
    this.counters = numbers.map(({ label, values, tag }) => {
      const value = make("b", "value");
      list.append(make("div", "", { role: "listitem" }, value,
        make("span", "label", {}, label, " ", make("span", "tag", { "data-tag": tag }, tags[tag]))));
      return follow(values, textOf(value));
    });
    return list;
  }

  /** Of a panel: what it is the first to show. */
  legend(i) {
    const { legends, labels, words, series } = this.film;
    const item = (name) => make("span", "item", { role: "listitem" }, series.includes(name)
      ? make("i", "swatch", { "data-series": name })
      : make("i", "cell", { "data-state": name }), labels[name]);
    return legends[i].length ? [make("span", "legend", { role: "list", "aria-label": words.legend },
      ...legends[i].map(item))] : [];
  }

  controls() {
    const { words } = this.film;
    const button = (name, act) => {
      const node = this.name(make("button", name, { type: "button" }), name);
      node.onclick = act;
      return node;
    };
    const jump = (key) => button(key, () => this.jump(key));
    this.playButton = button("play", () => this.toggle());
    this.scrub = make("input", "scrub", { type: "range", max: this.last, "aria-label": words.scrub });
    this.scrub.oninput = () => this.stopAt(+this.scrub.value);
    this.position = make("span", "position");
    this.rate = make("select", "", { "aria-label": words.speed },
      ...RATES.map((rate) => make("option", "", { value: rate }, fill(words.rate, { rate }))));
    this.rate.onchange = () => this.save("rate", +this.rate.value);
    this.loop = button("loop", () => this.save("loop", !this.model.get("loop")));
    return make("div", "controls", { role: "group", "aria-label": words.controls },
      jump("Home"), jump("ArrowLeft"), this.playButton, jump("ArrowRight"), jump("End"),
      this.scrub, this.position, this.rate, this.loop);
  }

  name(button, key) {
    const { words, icons } = this.film;
    button.replaceChildren(icon(icons[key]));
    return fit(button, { title: words[key], "aria-label": words[key] }, []);
  }

  link(name, target) {
    this.links.set(name, [...(this.links.get(name) ?? []), target]);
  }

  /** Shows `step`: the only place that does. */
  go(wanted) {
    if (this.last < 0) return;
    const step = clamp(wanted, this.last);
    if (step === this.step) return;
    const start = this.step === null;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const fast = this.playing && this.model.get("rate") > 5;
    const moving = !start && step === this.step + 1 && !calm && !fast;
    this.step = step;
    this.leave();
    const changed = this.views.filter((view) => view.show(step));
    for (const panel of this.panels) panel.show?.(step, moving);
    for (const counter of this.counters) counter(step);
    this.caption.textContent = this.film.captions[step];
    this.position.textContent = this.said("short", step);
    this.scrub.value = step;
    this.scrub.ariaValueText = this.said("position", step);
    if (moving) requestAnimationFrame(() => this.settle(changed));
    requestAnimationFrame(() => this.look());
    if (!start) this.announce(); // a page that opens stays silent
    if (this.model.get("step") !== step) this.share(step);
  }

  /** The reader asked for a step. */
  stopAt(step) {
    this.play(false);
    this.go(step);
  }

  jump(key) {
    this.stopAt(this.step + JUMPS[key]);
  }

  toggle() {
    if (!this.playing && this.step === this.last) this.go(0);
    this.play(!this.playing);
  }

  play(on) {
    if (on === this.playing) return;
    this.playing = on;
    this.root.classList.toggle("playing", on);
    this.name(this.playButton, on ? "pause" : "play");
    this.announce();
    if (on) this.run();
    else cancelAnimationFrame(this.frame);
  }

  run() {
    const interval = () => 1000 / this.model.get("rate");
    let due = performance.now() + interval();
    const frame = (now) => {
      this.frame = requestAnimationFrame(frame);
      if (now < due) return;
      due = Math.max(due + interval(), now - interval()); // catches up by one frame at most
      const last = this.step === this.last;
      if (last && !this.model.get("loop")) this.play(false);
      else this.go(last ? 0 : this.step + 1);
    };
    frame(0);
  }

  /** New cells slide from their origin, or drop into place; what is rejected falls. */
  settle(views) {
    const written = views.filter((view) => view.written === this.step).slice(0, 64);
    const moves = written.map((view) => {
      const from = this.links.get(view.origin)?.[0].box();
      const to = view.box();
      return from ? `${from.left - to.left}px, ${from.top - to.top}px` : "0, -5px";
    });
    const rest = { transform: "none", opacity: 1 };
    const fall = [rest, { transform: "translate(2px, 9px) rotate(5deg)", opacity: 0.4 }, rest];
    written.forEach(({ node, state }, i) => node.animate(state === "rejected" ? fall
      : [{ transform: `translate(${moves[i]})`, opacity: 0.5 }, rest],
    { duration: state === "rejected" ? 380 : 190, easing: "cubic-bezier(.2,.7,.2,1)" }));
  }

  said(key, step) {
    const { words, unit, first } = this.film;
    return fill(words[key], { unit, step: step + first, steps: this.last + first });
  }

  /** Reads the caption aloud once the player rests. */
  announce() {
    clearTimeout(this.announcing);
    if (this.playing) return;
    this.announcing = setTimeout(() => {
      this.live.textContent = `${this.scrub.ariaValueText}. ${this.film.captions[this.step]}`;
    }, 400);
  }

  /** Tells Python, at most every quarter of a second. */
  share(step) {
    this.model.set("step", step);
    this.saving ??= setTimeout(() => {
      delete this.saving;
      this.model.save_changes();
    }, 250);
  }

  save(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  /** Shows the reader's choices. */
  choose() {
    if (this.last < 0) return;
    this.rate.value = this.model.get("rate");
    this.loop.ariaPressed = this.model.get("loop");
  }

  point({ tip, links, origin, box }) {
    this.leave();
    if (!tip) return;
    this.lit = [...links, origin].flatMap((name) => this.links.get(name) ?? []);
    for (const target of this.lit) target.lit(true);
    if (this.looking) this.arch(links.find((name) => this.looking.looks(name).length));
    const { tipBox } = this;
    tipBox.replaceChildren(...tip.filter(Boolean).map((text) => make("div", "", {}, text)));
    tipBox.hidden = false;
    const { left, top, width } = this.root.getBoundingClientRect();
    const to = box();
    const { offsetWidth: w, offsetHeight: h, style } = tipBox;
    const above = to.top - top - h - 8;
    style.left = `${clamp(to.left - left + (to.width - w) / 2, width - w - 8)}px`;
    style.top = `${above > 0 ? above : to.bottom - top + 8}px`;
    const from = this.links.get(origin)?.[0].box();
    if (from) this.connect(from, to);
  }

  /** The arcs of the row that is outlined. */
  look() {
    if (this.looking && this.step !== null) this.arch(this.looking.outlined());
  }

  /** Arcs over the text from the cell of a link to all that it looks at, as wide as its weights. */
  arch(link) {
    const { left, top } = this.arcs.getBoundingClientRect();
    const place = (name) => {
      const box = this.links.get(name)[0].box();
      return [box.left + box.width / 2 - left, box.top - top];
    };
    this.arcs.replaceChildren(...this.looking.looks(link).map(([one, other, weight]) => {
      const [[x1, y1], [x2, y2]] = [place(one), place(other)];
      const y = Math.min(y1, y2) - 4 - Math.min(34, Math.abs(x1 - x2) / 6);
      return draw("path", { d: `M${x1} ${y1}C${x1} ${y} ${x2} ${y} ${x2} ${y2}`,
        "stroke-width": 1 + 5 * weight, "stroke-opacity": 0.3 + 0.7 * weight });
    }));
  }

  connect(from, to) {
    const { left, top } = this.wire.getBoundingClientRect();
    const [x1, x2] = [from, to].map((box) => box.left + box.width / 2 - left);
    const down = to.top >= from.bottom;
    const y1 = from.bottom - top;
    const y2 = (down ? to.top : to.bottom) - top;
    const y = down ? (y1 + y2) / 2 : Math.max(y1, y2) + 18; // else the curve passes below both
    this.wire.replaceChildren(draw("path", { d: `M${x1} ${y1}C${x1} ${y} ${x2} ${y} ${x2} ${y2}` }));
  }

  leave() {
    for (const target of this.lit) target.lit(false);
    this.lit = [];
    this.tipBox.hidden = true;
    this.wire.replaceChildren();
    this.look();
  }

  listen() {
    const { signal } = this.gone;
    new ResizeObserver(() => this.look()).observe(this.stage);
    const on = (node, name, act) => node.addEventListener(name, act, { signal });
    const find = ({ target }) => this.cells.get(target.closest(".cell"));
    const point = (event) => {
      const view = find(event);
      if (view) this.point({ ...view.about, links: [view.cell.link], box: () => view.box() });
      else this.leave();
    };
    for (const name of ["pointerover", "focusin"]) on(this.stage, name, point);
    for (const name of ["pointerleave", "focusout"]) on(this.stage, name, () => this.leave());
    on(this.root, "keydown", (event) => this.key(event, find(event)));
    const retheme = () => this.panels.forEach((panel) => panel.retheme?.());
    on(matchMedia("(prefers-color-scheme: dark)"), "change", retheme);
    const host = new MutationObserver(retheme); // JupyterLab names its theme on the body
    host.observe(document.body, { attributes: true });
    signal.addEventListener("abort", () => host.disconnect());
  }

  key(event, view) {
    const { key, target, ctrlKey, metaKey, altKey, shiftKey } = event;
    const act = !(ctrlKey || metaKey || altKey || shiftKey) && this.action(key, target, view);
    if (!act) return;
    act();
    ours(event);
  }

  action(key, target, view) {
    if (key === " " && !target.matches("button, select")) return () => this.toggle();
    if (target.matches("input, select")) return null; // these know arrows themselves
    if (view && key === "Enter") return () => this.stopAt(view.written ?? this.step);
    if (view && key === "Escape") return () => this.root.focus();
    if (view && MOVES[key]) return () => this.move(view, ...MOVES[key]);
    return JUMPS[key] && (() => this.jump(key));
  }

  /** Moves the focus and with it the one tab stop of a table. */
  move({ rows, r, c, node }, down, right) {
    const row = rows[r + down] ?? [];
    const next = row[down ? Math.min(c, row.length - 1) : c + right];
    if (!next) return;
    node.tabIndex = -1;
    next.node.tabIndex = 0;
    next.node.focus();
  }

  stop() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.announcing);
    this.gone.abort();
  }
}

function render({ model, el }) {
  let player;
  const start = () => {
    player?.stop();
    player = new Player(model, el);
  };
  const choose = () => player.choose();
  const step = () => { // what comes before Python knows the reader's step is an echo of an earlier one
    if (player.saving) model.set("step", player.step);
    else player.go(model.get("step"));
  };
  const acts = Object.entries({ film: start, step, rate: choose, loop: choose });
  start();
  for (const [name, act] of acts) model.on(`change:${name}`, act);
  return () => {
    for (const [name, act] of acts) model.off(`change:${name}`, act);
    player.stop();
  };
}

export default { initialize: (context) => void globalThis["minillm.hear"](context), render };
