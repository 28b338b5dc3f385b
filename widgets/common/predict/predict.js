// The control of a question (widgets/common/predict/control.py): choose, lock, and count an audience.
// State lives in the model: said (a number, a choice or null), locked, counts; asking the hall, and
// where it answers.

const fill = (template, values) => template.replace(/\{(\w+)\}/g, (_, name) => values[name]);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

let questions = 0; // names of radio groups must differ on a page

/** The slider and number field of a question; `choose` receives the number, or null. */
function numberControl({ stops, low, high, log, unit, words }, write, choose) {
  const slider = make("input", {
    type: "range", min: 0, max: stops.length - 1, step: 1, "aria-label": words.slider,
  });
  const field = make("input", { type: "number", min: low, max: high, step: "any", "aria-label": words.field });
  const nearest = (value) => stops.reduce(
    (best, stop, i) => (Math.abs(stop - value) < Math.abs(stops[best] - value) ? i : best), 0);
  slider.value = Math.floor(stops.length / 2);
  slider.addEventListener("input", () => choose(stops[slider.valueAsNumber]));
  field.addEventListener("input", () => {
    choose(field.value !== "" && field.checkValidity() ? field.valueAsNumber : null);
  });
  const show = (said) => {
    if (said !== null) slider.value = nearest(said);
    slider.classList.toggle("card-unsaid", said === null); // no knob says a number before the reader
    slider.setAttribute("aria-valuetext", said === null ? words.open : write(said));
    if (document.activeElement !== field) field.value = said ?? "";
  };
  const ends = [low, high].map((end) => make("span", { class: "card-ends", "aria-hidden": "true" }, write(end)));
  if (log) ends[1].append(`, ${words.log}`);
  const scale = make("span", { class: "card-stops" }, ends[0], slider, ends[1]);
  const node = make("div", { class: "card-row" }, scale, field, unit.trim());
  return { node, show, invalid: () => field.value !== "" && !field.checkValidity() };
}

/** The choices of a question as radio buttons. */
function choiceControl({ choices }, choose) {
  const name = `card-question-${questions++}`;
  const inputs = choices.map((value) => make("input", { type: "radio", name, value }));
  for (const input of inputs) input.addEventListener("change", () => choose(input.value));
  const labels = choices.map((choice, i) => make("label", {}, inputs[i], choice));
  const show = (said) => inputs.forEach((input) => { input.checked = input.value === said; });
  return { node: make("div", { class: "card-choices" }, ...labels), show, invalid: () => false };
}

/** A folded table in which a lecturer counts the votes for each bin. */
function poll({ bins, words }, counts, choose, asked) {
  const rows = bins.map((bin, i) => {
    const field = make("input", {
      type: "number", min: 0, step: 1, "aria-label": fill(words.votes, { bin }),
    });
    field.addEventListener("input", () => {
      choose(i, field.checkValidity() ? Math.max(0, Math.round(field.valueAsNumber) || 0) : 0);
    });
    const bar = make("i", { class: "card-bar" });
    const row = make("tr", {}, make("th", { scope: "row" }, bin), make("td", {}, field),
      make("td", { class: "card-wide" }, bar));
    return { row, field, bar };
  });
  const show = (votes, asking) => {
    if (asking) node.open = true;
    const most = Math.max(1, ...votes);
    rows.forEach(({ field, bar }, i) => {
      field.readOnly = asking; // phones count
      if (document.activeElement !== field) field.value = votes[i] || "";
      bar.style.width = `${(100 * votes[i]) / most}%`;
    });
  };
  const table = make("table", { class: "card-poll" }, make("caption", {}, words.pollhint),
    make("tbody", {}, ...rows.map(({ row }) => row)));
  const node = make("details", {}, make("summary", {}, words.poll), asked, table);
  node.open = counts.some((votes) => votes > 0);
  return { node, show };
}

/** A button that asks the hall, and the address where phones vote, with its QR code. */
function hall({ words }, ask) {
  const button = make("button", { type: "button" });
  const code = make("img", { class: "card-qr" });
  const address = make("b", { class: "card-address" });
  const status = make("span", { role: "status" });
  const node = make("div", { class: "card-hall" }, code,
    make("div", {}, address, make("div", { class: "card-status" }, button, status)));
  button.addEventListener("click", ask);
  const show = (invitation, asking, votes) => {
    const known = invitation?.address;
    node.hidden = !invitation; // a page without a kernel
    button.textContent = asking ? words.close : known ? words.reopen : words.ask;
    code.hidden = !(asking && invitation.code);
    address.hidden = !(asking && known);
    if (known) {
      code.src = invitation.code;
      code.alt = fill(words.code, invitation);
      address.textContent = fill(words.invite, { address: known.replace(/^http:\/\/|\/$/g, "") });
      status.textContent = fill(asking ? words.phones : words.closed, { votes });
    }
  };
  return { node, show };
}

function render({ model, el }) {
  const ask = model.get("ask");
  const { words } = ask;
  const set = (values) => {
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    model.save_changes();
  };
  const write = (said) => (typeof said === "number"
    ? said.toLocaleString("en", { maximumSignificantDigits: 6 }) + (said === 1 ? ask.one : ask.unit) : said);
  const choose = (said) => { set({ said }); show(); };

  const control = ask.choices.length ? choiceControl(ask, choose) : numberControl(ask, write, choose);
  const lock = make("button", { type: "button", class: "card-lock" }, words.lock);
  const again = make("button", { type: "button" }, words.again);
  const status = make("span", { role: "status", tabindex: "-1" });
  const question = make("fieldset", {}, make("legend", {}, ask.text), control.node);
  const phones = hall(ask, () => set({ asking: !model.get("asking") }));
  const votes = poll(ask, model.get("counts"), (i, count) => {
    set({ counts: model.get("counts").map((old, k) => (k === i ? count : old)) });
    show();
  }, phones.node);
  el.append(make("div", { class: "minillm card" },
    make("p", { class: "card-kicker" }, words.kicker), question,
    make("div", { class: "card-status" }, lock, status, again), votes.node));

  const message = (said, locked) => {
    if (control.invalid()) return fill(words.range, { low: write(ask.low), high: write(ask.high) });
    if (said === null) return words.hint;
    return fill(locked ? words.locked : words.ready, { said: write(said) });
  };
  function show() {
    const said = model.get("said");
    const locked = model.get("locked");
    question.disabled = locked;
    lock.hidden = locked;
    again.hidden = !locked;
    lock.disabled = said === null;
    control.show(said);
    const counts = model.get("counts");
    phones.show(model.get("hall"), model.get("asking"), counts.reduce((a, b) => a + b, 0));
    votes.show(counts, Boolean(model.get("asking")));
    const text = message(said, locked);
    if (status.textContent !== text) status.textContent = text;
    if (locked) el.dispatchEvent(new Event("locked", { bubbles: true })); // slides go on
  }
  lock.addEventListener("click", () => { set({ locked: true }); show(); status.focus(); });
  again.addEventListener("click", () => {
    set({ locked: false, said: null });
    show();
    question.querySelector("input").focus();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.type === "number" && !lock.disabled) {
      event.preventDefault(); // else it presses what is focused next
      lock.click();
    }
  });
  model.on("change", show);
  show();
  return () => model.off("change", show);
}

export default { initialize: (context) => void globalThis["minillm.hear"](context), render };
