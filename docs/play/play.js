/* What the files of the playground share: networks and images as they are loaded, and workers */
const spatPlay = (() => {
  "use strict";
  const networks = {}, images = {}, waiting = {};
  let menu = [];

  // a script is what a page may load even where it was opened from a folder
  const home = new URL(".", document.currentScript.src);
  function load(name) {
    if (networks[name]) return Promise.resolve(networks[name]);
    const { file, title } = menu.find((m) => m.name === name);
    waiting[name] ||= new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = new URL(file, home);
      script.onload = () => done(networks[name]);
      script.onerror = () => fail(new Error(`The network ${title} could not be loaded.`));
      document.head.append(script);
    });
    return waiting[name];
  }

  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  function keepImages(about, text) {
    const levels = bytesOf(text), n = about.shape.reduce((a, b) => a * b);
    images[about.name] = {
      ...about,
      x: (k) => Float32Array.from(levels.subarray(k * n, (k + 1) * n), (t) => t / 255),
    };
  }

  // a worker that is handed each network once
  function worker(hear) {
    const engine = `(${spatEngine})((${spatConvolutions})((${spatKernel})()))`;
    const text = `(${spatWorker})(${engine}, (${spatAttacks})());`;
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const made = new Worker(address), known = new Set();
    made.onmessage = ({ data }) => hear(data);
    return async (request) => {
      const { about, text } = await load(request.name);
      if (!known.has(request.name)) made.postMessage({ kind: "network", about, text });
      known.add(request.name);
      made.postMessage(request);
    };
  }

  // ---- small parts of a page
  function element(tag, attributes = {}, ...inside) {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes))
      if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
      else if (v !== false && v !== null) e.setAttribute(k, v === true ? "" : v);
    e.append(...inside);
    return e;
  }

  return {
    load, worker, element, bytesOf, images,
    network: (about, text) => (networks[about.name] = { about, text }),
    listed: () => menu,
    menu: (listed) => (menu = listed),
    keep: keepImages,
  };
})();
