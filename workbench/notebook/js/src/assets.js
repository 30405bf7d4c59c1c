// Parts of the front end that are large and seldom needed. Python sends them; each is a module, loaded once a page.

// on globalThis: each widget's bundle is a module of its own
const loaded = (globalThis.__workbenchAssets ??= new Map());

export class Assets {
  #wanted = new Map(); // name -> those who wait

  /** Return a promise of the module. `ask` is called each time until it is there: what was asked before may not have been heard. */
  want(name, ask) {
    if (loaded.has(name)) return loaded.get(name);
    const waiting = this.#wanted.get(name) ?? [];
    this.#wanted.set(name, waiting);
    ask();
    return new Promise((resolve) => waiting.push(resolve));
  }

  came(name, buffer) {
    const waiting = this.#wanted.get(name);
    if (!waiting || !buffer) return; // another view asked
    this.#wanted.delete(name);
    // as anywidget loads the bundle itself
    const url = URL.createObjectURL(new Blob([buffer], { type: "text/javascript" }));
    const module = import(url).finally(() => URL.revokeObjectURL(url));
    loaded.set(name, module);
    for (const resolve of waiting) resolve(module);
  }
}
