// A browser starts no worker for a page that was opened as a file. There, a hidden frame does the work of one, for the
// search. It is of the same origin as the page, and loads the worker's script as any page does.

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.inside = framed().then(async (inside) => {
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        inside.importScripts = (...urls) => Promise.all(urls.map((each) => load(inside, each)));
        await load(inside, url);
        return inside;
      });
    }

    async postMessage(data) {
      const inside = await this.inside;
      inside.dispatchEvent(new inside.MessageEvent("message", { data }));
    }
  };
}

function framed() {
  const frame = Object.assign(document.createElement("iframe"), { hidden: true, srcdoc: "<!doctype html>" });
  return new Promise((done) => {
    frame.onload = () => done(frame.contentWindow);
    document.documentElement.append(frame);
  });
}

function load(inside, url) {
  return new Promise((done, failed) => {
    const script = inside.document.createElement("script");
    inside.document.body.append(Object.assign(script, { src: url, onload: done, onerror: failed }));
  });
}
