// A text box that names a model. Enter asks for what it names, and nothing else does; a line says
// how that goes, in a status region that is there before, so that screen readers announce it.

function render({ model, el }) {
  const label = document.createElement("label");
  label.className = "model-name";
  const name = document.createElement("span");
  name.className = "widget-label";
  name.textContent = model.get("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "text", spellcheck: false, autocomplete: "off" });
  input.title = model.get("help");
  label.append(name, input);
  const status = document.createElement("p");
  status.className = "model-said";
  status.role = "status";
  el.append(label, status);

  input.addEventListener("keydown", (event) => {
    const plain = !(event.shiftKey || event.ctrlKey || event.altKey || event.metaKey);
    if (event.key === "Enter" && plain && !event.isComposing) model.send({ name: input.value });
  });
  const named = () => (input.value = model.get("value"));
  const said = () => {
    status.textContent = model.get("said");
    input.ariaInvalid = String(model.get("refused"));
  };
  named();
  said();
  model.on("change:value", named);
  model.on("change:said change:refused", said);
  return () => {
    model.off("change:value", named);
    model.off("change:said change:refused", said);
  };
}

export default { initialize: (context) => void globalThis["minillm.hear"](context), render };
