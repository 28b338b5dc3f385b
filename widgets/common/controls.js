// The line under a chart: what it shows, in words. It also gives the controls and the figure above
// it what ipywidgets and plotly leave out: names for screen readers, and the width of the card.

/** Names the sliders after their labels, and their numbers, which can be edited. */
function nameSliders(card) {
  for (const slider of card.querySelectorAll(".widget-slider")) {
    const name = slider.querySelector(".widget-label").textContent;
    const readout = slider.querySelector(".widget-readout");
    for (const handle of slider.querySelectorAll("[role=slider]")) {
      handle.ariaLabel = name;
      handle.ariaValueText = readout.textContent; // "all", where the slider stands at 7
    }
    readout.role = "textbox";
    readout.ariaLabel = name;
  }
}

/** A text, and in it the words that say where its numbers come from, as tags. */
export function tagged(text, tags) {
  const names = Object.keys(tags);
  const words = names.map((name) => tags[name]);
  return text.split(new RegExp(`\\((${words.join("|")})\\)`)).map((part, i) => {
    if (i % 2 === 0) return part; // between two of them
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.dataset.tag = names[words.indexOf(part)];
    tag.textContent = part;
    return tag;
  });
}

function render({ model, el }) {
  const readout = document.createElement("p");
  readout.className = "readout";
  readout.role = "status";
  el.append(readout);
  let card = null; // known once Jupyter has put us there
  let figure = null;

  // plotly measures its figure before it is in the page, and again when the window changes.
  const fit = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));

  const dress = () => {
    nameSliders(card);
    const found = card.querySelector(".js-plotly-plot");
    if (found && found !== figure) {
      fit.disconnect();
      fit.observe(found);
      found.role = "figure"; // not an image: its buttons can be reached
      figure = found;
    }
    if (figure) figure.ariaLabel = model.get("text");
    for (const drawing of card.querySelectorAll(".main-svg")) drawing.ariaHidden = true;
  };
  const grown = new MutationObserver(dress); // controls and figure arrive one by one
  const arrive = new ResizeObserver(() => {
    if (card) return;
    card = el.closest(".minillm.chart");
    if (!card) return;
    grown.observe(card, { childList: true, subtree: true });
    dress();
  });
  arrive.observe(el);

  const show = () => {
    readout.replaceChildren(...tagged(model.get("text"), model.get("tags")));
    if (card) dress();
  };
  show();
  model.on("change:text", show);
  return () => {
    model.off("change:text", show);
    for (const observer of [arrive, grown, fit]) observer.disconnect();
  };
}

export default { initialize: (context) => void globalThis["minillm.hear"](context), render };
