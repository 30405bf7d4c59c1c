// Loads the built bundle the way anywidget does, with a model that records what the widget sends.
// page.evaluate runs this file once per page; it leaves `wb` on the window.
async ({ source, css, traits }) => {
  class FakeModel {
    traits = { chat_id: "c1", protocol: 1, height: "480px", ...traits };
    sent = [];
    autoAck = true;
    #handlers = new Map();

    get(name) {
      return this.traits[name];
    }
    set(name, value) {
      this.traits[name] = value;
      this.emit(`change:${name}`);
    }
    on(name, handler) {
      this.#handlers.set(name, [...(this.#handlers.get(name) ?? []), handler]);
    }
    off(name, handler) {
      this.#handlers.set(name, (this.#handlers.get(name) ?? []).filter((other) => other !== handler));
    }
    emit(name, ...values) {
      for (const handler of this.#handlers.get(name) ?? []) handler(...values);
    }
    send(message) {
      this.sent.push({ ...message, at: performance.now() });
      if (this.autoAck) setTimeout(() => this.receive({ t: "ack", c: message.c }));
      const file = message.t === "asset" && window.assets?.[message.name];
      if (file) setTimeout(() => this.receive({ t: "asset", name: message.name }, [new TextEncoder().encode(file)]));
    }
    /** A message from Python. */
    receive(message, buffers = []) {
      this.emit("msg:custom", structuredClone(message), buffers);
    }
    of(kind) {
      return this.sent.filter(({ t }) => t === kind);
    }
  }

  const style = document.createElement("style");
  style.textContent = css;
  document.head.append(style);
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: widget } = await import(url);

  const SNAP = { t: "snap", chat_id: "c1", title: "Prime numbers", model: "claude-sonnet-5-5", local: false, messages: [], live: null, cost_usd: "0" };
  let turns = 0;
  const shown = [];

  window.wb = {
    FakeModel,
    SNAP,
    /** Show a widget; return its model. */
    show({ snap = {}, attached = true, ...options } = {}) {
      const model = Object.assign(new FakeModel(), options);
      const el = document.createElement("div");
      model.el = el;
      if (attached) document.body.append(el);
      shown.push(model);
      model.close = widget.render({ model, el });
      if (snap) model.receive({ ...SNAP, ...snap });
      window.model = model;
      return model;
    },
    /** Take away all widgets and drafts. */
    clear() {
      for (const model of shown.splice(0)) {
        model.el.remove();
        model.close();
      }
      globalThis.__workbenchDrafts.clear();
    },
    /** Begin a turn, as Python does after a send. */
    start(model, text = "hi", turn = `t${++turns}`) {
      model.receive({ t: "start", turn, message_id: `m-${turn}`, user_message_id: `u-${turn}`, text, model: "claude-sonnet-5-5" });
      let seq = 0;
      let reply = "";
      return {
        turn,
        delta(s, k = "text", number = ++seq) {
          if (k === "text") reply += s;
          model.receive({ t: "d", turn, seq: number, k, i: 0, s });
        },
        end(more = {}) {
          model.receive({
            t: "end", turn, message_id: `m-${turn}`, status: "complete", stop_reason: "end_turn",
            len: [...reply].length, footer: "claude-sonnet-5-5 · 12 in · 34 out · $0.0004 · 1.2 s", chat_cost_usd: "0.00042", ...more,
          });
        },
      };
    },
    frame: () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
    body: (model) => [...model.el.querySelectorAll(".wb-message[data-role=assistant] .wb-body")].at(-1),
  };
}
