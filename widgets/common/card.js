// A card shows HTML that Python has written and escaped. Screen readers announce what changes in a
// status region that is already there, so what the card says is put into one a moment later.

const LATER = 150; // milliseconds

function render({ model, el }) {
  const card = document.createElement("div");
  card.className = "minillm card";
  const body = document.createElement("div");
  const status = document.createElement("div");
  status.className = "card-spoken";
  status.setAttribute("role", "status");
  card.append(body, status);
  el.append(card);

  let timer;
  const show = () => {
    // eslint-disable-next-line no-restricted-properties -- Python has escaped every text in it
    body.innerHTML = model.get("html");
    clearTimeout(timer);
    timer = setTimeout(() => (status.textContent = model.get("spoken")), LATER);
  };
  show();
  model.on("change:html", show);
  return () => {
    clearTimeout(timer);
    model.off("change:html", show);
  };
}

export default { initialize: (context) => void globalThis["minillm.hear"](context), render };
