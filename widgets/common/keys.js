// What every widget's program begins with (widgets/common/program.py): a key that is pressed inside a
// widget stays there, since a notebook cuts a cell at x. Ctrl, Alt and Meta with anything, and
// Shift+Enter, are the notebook's and the browser's as ever. Escape leaves for the cell.

globalThis["minillm.keys"] ??= (() => {
  // These know Space.
  const SPACED = "button, input:not([type=range]), select, textarea, summary, [contenteditable]";
  const widgetAt = ({ target }) => target.closest?.(".minillm");

  const stays = ({ key, ctrlKey, altKey, metaKey, shiftKey }) =>
    !(ctrlKey || altKey || metaKey || (shiftKey && key === "Enter"));

  function keep(event) {
    if (!stays(event)) return;
    const { key, target } = event;
    event.stopPropagation();
    if (event.defaultPrevented || event.isComposing) return;
    if (key === " " && !target.matches(SPACED)) event.preventDefault(); // else the page scrolls
    if (key === "Escape") target.closest(".jp-Cell")?.focus();
  }

  addEventListener("keydown", (event) => {
    const widget = widgetAt(event);
    if (!widget) return;
    // Notebook 7 acts on a key before it arrives, but asks its target.
    event.target.toggleAttribute("data-lm-suppress-shortcuts", stays(event));
    widget.addEventListener("keydown", keep);
  }, true);
  addEventListener("pointerdown", (event) => { // else a click between controls is one on the cell
    const widget = widgetAt(event);
    if (widget && !widget.hasAttribute("tabindex")) widget.tabIndex = -1;
  }, true);
  return true;
})();
