// A lesson without a kernel: widgets live from what was recorded (widgets/site/record.py), answers
// wait behind their questions, search and theme. All is in plain scripts, so a page works from disk.

(() => {
  const { words, programs, records: packed, open, slides } = globalThis.minillm;
  const root = document.documentElement;

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function load(source) {
    return new Promise((resolve, reject) => {
      const script = make("script", { src: source });
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${source} is missing`));
      document.head.append(script);
    });
  }
  const loaded = new Map();
  const once = (source) => loaded.get(source) ?? loaded.set(source, load(source)).get(source);

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  // What the reader has chosen; a browser may refuse to keep it.

  function kept(name, value) {
    try {
      if (value !== undefined) localStorage.setItem(`minillm.${name}`, JSON.stringify(value));
      return JSON.parse(localStorage.getItem(`minillm.${name}`));
    } catch {
      return null;
    }
  }

  // Theme: the reader's system, until a button says otherwise.

  function theme() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const show = () => {
      const chosen = kept("theme") ?? (dark.matches ? "dark" : "light");
      root.dataset.theme = chosen;
      document.body.dataset.jpThemeLight = String(chosen === "light");
    };
    document.getElementById("theme").addEventListener("click", () => {
      kept("theme", root.dataset.theme === "dark" ? "light" : "dark");
      show();
    });
    dark.addEventListener("change", show);
    show();
  }

  // Search: every word must stand in a section; sections whose title has it come first.

  function search() {
    const field = document.getElementById("search");
    const list = document.getElementById("found");
    const find = async () => {
      await once("search.js");
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      list.hidden = !wanted.length;
      const has = (text) => wanted.every((word) => text.toLowerCase().includes(word));
      const all = globalThis.minillm.sections.filter(({ title, text }) => has(`${title} ${text}`));
      const best = [...all.filter(({ title }) => has(title)), ...all.filter(({ title }) => !has(title))];
      list.replaceChildren(...best.slice(0, 12).map(({ page, anchor, title }) => make("li", {},
        make("a", { href: `${page}.html#${anchor}` }, `${page.slice(0, 2)} · ${title}`))));
      if (!best.length) list.append(make("li", {}, words.none));
    };
    field.addEventListener("input", find);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") list.hidden = true;
    });
    list.addEventListener("click", () => { list.hidden = true; });
  }

  // Widgets: a model that no kernel hears, for the programs that JupyterLab runs.

  class Model extends EventTarget {
    constructor(traits) {
      super();
      this.traits = { ...traits };
      this.heard = new Map();
    }
    get(name) { return this.traits[name]; }
    set(name, value) {
      if (this.traits[name] === value) return;
      this.traits[name] = value;
      this.dispatchEvent(new Event(`change:${name}`));
      this.dispatchEvent(new Event("change"));
    }
    save_changes() {}
    on(names, listener) {
      for (const name of names.split(" ")) this.addEventListener(name, listener);
    }
    off(names, listener) {
      for (const name of names.split(" ")) this.removeEventListener(name, listener);
    }
  }

  const modules = new Map();
  function program(name) {
    if (!modules.has(name)) {
      const url = URL.createObjectURL(new Blob([programs[name]], { type: "text/javascript" }));
      modules.set(name, import(url));
    }
    return modules.get(name);
  }

  async function run(record, el) {
    const model = new Model(record.traits);
    const { render } = (await program(record.program)).default;
    render({ model, el });
    return model;
  }

  async function draw({ figure }, el) {
    await once("plotly.min.js");
    const config = { responsive: true, displaylogo: false, displayModeBar: false };
    await globalThis.Plotly.react(el, figure.data, figure.layout, config);
    el.style.setProperty("--tall", `${el.offsetHeight}px`);
  }

  /** Controls over a view: each choice shows what was recorded for it, the other controls at first. */
  async function explore(record, el) {
    const view = make("div");
    const readout = make("p", { class: "readout", role: "status" });
    const choices = record.controls.filter(({ options }) => options.length > 1);
    let film = null;
    const show = async (state) => {
      readout.textContent = state.readout;
      if (state.view.figure) return draw(state.view, view);
      if (!film) film = await run(state.view, view);
      else for (const name of ["film", "step"]) film.set(name, state.view.traits[name]);
    };
    const selects = choices.map((control) => {
      const options = control.options.map((label, i) => make("option", { value: i }, label));
      const select = make("select", {}, ...options);
      select.selectedIndex = control.first;
      select.addEventListener("change", () => {
        selects.forEach((other, i) => { if (other !== select) other.selectedIndex = choices[i].first; });
        const key = `${record.controls.indexOf(control)}.${select.value}`;
        show(record.states[key] ?? record.states[""]);
      });
      return select;
    });
    const rows = selects.map((select, i) => make("label", {}, `${choices[i].name} `, select));
    el.append(make("div", { class: record.classes.join(" ") },
      ...(rows.length ? [make("div", { class: "site-settings" }, ...rows)] : []), view, readout));
    await show(record.states[""]);
  }

  // Predictions: what is locked stays, and its reveals follow it.

  const questions = new Map(); // key: the model

  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const gates = target?.closest("[data-gates]")?.dataset.gates ?? "";
    gates.split(" ").filter(Boolean).forEach(open);
    target?.scrollIntoView();
  }

  async function ask(record, el) {
    const key = record.question;
    const traits = { ...record.traits, ...kept(key) };
    const { choices } = traits.ask;
    if (choices.length && !choices.includes(traits.said)) Object.assign(traits, { said: null, locked: false });
    const model = await run({ ...record, traits }, el);
    questions.set(key, model);
    const follow = () => {
      const { said, locked } = model.traits;
      kept(key, { said, locked });
      document.dispatchEvent(new CustomEvent("answered", { detail: key }));
    };
    model.on("change", follow);
  }

  async function answer(record, el) {
    const model = await run(record, el);
    const nearest = (said) => record.replies.reduce((best, reply) => (typeof said === "string"
      ? (reply.said === said ? reply : best)
      : Math.abs(reply.said - said) < Math.abs(best.said - said) ? reply : best));
    const show = () => {
      const asked = questions.get(record.answers);
      const reply = asked?.get("locked") ? nearest(asked.get("said")) : record.traits;
      model.set("spoken", reply.spoken);
      model.set("html", reply.html);
    };
    document.addEventListener("answered", ({ detail }) => { if (detail === record.answers) show(); });
    show();
  }

  function fill(record, el) {
    if (record.question) return ask(record, el);
    if (record.answers) return answer(record, el);
    if (record.states) return explore(record, el);
    return record.figure ? draw(record, el) : run(record, el);
  }

  async function live() {
    const records = await unpack(packed);
    const places = [...document.querySelectorAll(".site-live")];
    const put = async (place) => {
      await fill(records[place.dataset.model], place);
      place.parentElement.previousElementSibling?.querySelector(".minillm-still")?.remove();
      place.classList.add("ready");
    };
    for (const place of places) if (records[place.dataset.model].question) await put(place);
    addEventListener("hashchange", openTarget);
    openTarget();
    slides();
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) {
          seen.unobserve(target);
          put(target);
        }
      }
    }, { rootMargin: "1000px" });
    for (const place of places) if (!place.classList.contains("ready")) seen.observe(place);
  }

  theme();
  search();
  if (packed) {
    live().catch((error) => {
      root.classList.remove("live-page"); // all is shown, as without a script
      throw error;
    });
  }
})();
