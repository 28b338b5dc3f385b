// anywidget 0.11 gives a widget two seconds to load. One that takes longer, on a busy machine, never
// hears what the kernel says. Such a widget asks for its state, and hears from then on. Answers
// whether it was one, once its state is known: not to be awaited by what anywidget awaits.

globalThis["minillm.hear"] ??= async ({ model }) => {
  const own = await model.widget_manager.get_model(model.get("own_id"));
  if (!own.comm_live) return false;
  try {
    await own._handle_comm_msg({ content: { data: {} } });
    return false;
  } catch { // it was late
    const { _handle_comm_msg: handle } = Object.getPrototypeOf(own.constructor).prototype;
    return new Promise((know) => {
      own.comm.on_msg(async (message) => {
        await handle.call(own, message);
        if (message.parent_header.msg_id === asked) know(true);
      });
      const asked = own.comm.send({ method: "request_state" });
    });
  }
};
