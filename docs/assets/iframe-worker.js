// Search from disk: browsers start no workers from file: addresses, so a hidden frame runs the
// search's script in the place of one. Elsewhere this file does nothing.
(() => {
  if (location.protocol !== "file:") return;
  window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow; // an empty page, of the same origin as this one
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.onerror = (message) => console.error(message);
      const script = inside.document.createElement("script");
      script.src = address;
      this.loaded = new Promise((done) => (script.onload = done));
      inside.document.body.append(script);
      this.inside = inside;
    }

    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
  window.Worker = window.IFrameWorker;
})();
