// A figure of plotly's, drawn by a program that the page reads once, whoever comes first.

const programs = (globalThis["minillm.plotly"] ??= new Map()); // by version, promises

async function read(program) {
  const url = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

function plotly(bundle) {
  const version = bundle.get("version");
  if (!programs.has(version)) {
    const program = read(bundle.get("program"));
    programs.set(version, program);
    program.catch(() => programs.delete(version)); // the next figure tries again
  }
  return programs.get(version);
}

async function start(context) {
  const { model } = context;
  const id = model.get("bundle").slice("IPY_MODEL_".length);
  const figure = (await plotly(await model.widget_manager.get_model(id))).default();
  await figure.initialize(context);
  return figure;
}

const shown = (model) => JSON.stringify([model.get("_widget_data"), model.get("_widget_layout")]);

// Only drawing waits for the program: anywidget gives up on a widget that is not ready within two
// seconds, and never again tells it what the kernel says.
export default () => {
  let figure, heard;
  return {
    initialize(context) {
      figure = start(context);
      figure.catch(() => {}); // told where it is to be drawn
      heard = globalThis["minillm.hear"](context);
    },
    async render(context) {
      const drawn = await figure;
      if (context.signal?.aborted) return undefined;
      const { el, model } = context;
      new ResizeObserver(() => el.style.setProperty("--tall", `${el.offsetHeight}px`)).observe(el);
      const first = shown(model);
      heard.then(() => shown(model) !== first && drawn.render(context)); // it missed something
      return drawn.render(context);
    },
  };
};
