// A page that was opened from a disk may not start a worker. There its script runs in an empty
// frame instead, which has the page's own origin; the two send each other the same messages.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      this.onerror = null;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.receive(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = new URL(url, document.baseURI).href;
      this.started = new Promise((resolve) => script.addEventListener("load", resolve));
      script.addEventListener("error", () => this.onerror?.(new ErrorEvent("error")));
      inside.document.body.append(script);
    }

    receive(event) {
      setTimeout(() => {
        this.onmessage?.(event);
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
    }

    postMessage(data) {
      this.started.then(() => {
        this.frame.contentWindow?.dispatchEvent(new MessageEvent("message", { data }));
      });
    }

    terminate() {
      this.frame.remove();
    }
  };
}
