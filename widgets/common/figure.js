// plotly's program, read once for all figures of a page. Whoever comes first makes the promise; the
// bundle, a widget that is never shown, keeps it.

const NAME = "minillm.plotly";

function shared() {
  return (globalThis[NAME] ??= (() => {
    const promise = {};
    promise.ready = new Promise((resolve) => (promise.keep = resolve));
    return promise;
  })());
}

async function read(program) {
  const url = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// Nobody waits for the program but who draws with it: anywidget gives up on a widget that is not
// ready within two seconds, and never again tells it what the kernel says.
export default () => {
  let figure;
  return {
    initialize(context) {
      const promise = shared();
      const program = context.model.get("program");
      if (program) {
        promise.keep((promise.kept ??= read(program)));
      } else {
        figure = promise.ready.then(async (plotly) => {
          const drawn = plotly.default();
          await drawn.initialize(context);
          return drawn;
        });
      }
    },
    render: async (context) => (await figure).render(context),
  };
};
