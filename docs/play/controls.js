/* The controls of the playground, and the state that they and the address share */
spatPlay.controls = (() => {
  "use strict";
  const { element, images, own } = spatPlay;

  const BALLS = { Linf: "Linf: every pixel by eps", L2: "L2: Euclidean length eps" };
  const ATTACKS = {
    pgd: "PGD",
    margin: "PGD on the margin (CW)",
    temperature: "Temperature-PGD",
    fgsm: "FGSM (one step)",
  };
  const SHELVES = {
    digits: { left: "digits/standard/w16", right: "digits/pgd_at/w16", eps: 0.15, image: 34 },
    photographs: { left: "cifar10/standard/w8", right: "cifar10/pgd_at/w8", eps: 8 / 255, image: 0 },
  };
  const FIRST = {
    images: "digits", label: "labelled", ball: "Linf", attack: "pgd", tau: 1, steps: 10, size: 2.5,
    start: 0, own: "",
  };
  const opening = (kind) => ({ ...FIRST, images: kind, ...SHELVES[kind], ...(kind === "photographs" && { label: "said" }) });

  const pixels = (kind) => images[kind].shape.reduce((a, b) => a * b);
  // of about the same difficulty: the factors are those of the notebook's playground
  const top = (s) =>
    2.5 * SHELVES[s.images].eps * (s.ball === "L2" ? 0.5 * Math.sqrt(pixels(s.images)) : 1);

  // what the address says, as far as it makes sense; anything else stays as it was at first
  function fromHash(hash) {
    const given = new URLSearchParams(hash.slice(1));
    const s = opening(given.get("images") in SHELVES ? given.get("images") : "digits");
    const known = spatPlay.listed().filter((m) => m.name.startsWith(s.images === "digits" ? "digits/" : "cifar10/"));
    const fits = {
      left: (v) => known.some((m) => m.name === v),
      right: (v) => known.some((m) => m.name === v),
      ball: (v) => v in BALLS,
      attack: (v) => v in ATTACKS,
      label: (v) => ["labelled", "said"].includes(v) || (/^\d$/.test(v)),
      own: (v) => own.fromText(v, pixels(s.images)) !== null,
    };
    const range = {
      image: [0, images[s.images].labels.length - 1], eps: [0, Infinity], tau: [0.01, 100],
      steps: [1, 40], size: [0.1, 5], start: [0, 20],
    };
    for (const [k, v] of given)
      try {
        if (fits[k] && fits[k](v)) s[k] = v;
        else if (range[k] && v !== "" && +v >= range[k][0] && +v <= range[k][1]) s[k] = +v;
      } catch {
        continue; // an image that is no base64
      }
    s.eps = Math.min(s.eps, top(s));
    for (const k of ["image", "steps", "start"]) s[k] = Math.round(s[k]);
    return s;
  }

  // only what differs from the opening, so that addresses stay short
  function toHash(s, more = {}) {
    const first = opening(s.images), said = new URLSearchParams();
    if (s.images !== "digits") said.set("images", s.images);
    for (const [k, v] of Object.entries(s))
      if (k !== "images" && v !== first[k]) said.set(k, typeof v === "number" ? String(+v.toPrecision(6)) : v);
    for (const [k, v] of Object.entries(more)) if (v) said.set(k, v);
    return said.toString();
  }

  // ---- the controls
  function row(id, label, tip, control) {
    const shown = element("output", { for: `play-${id}` });
    control.id = `play-${id}`;
    control.title = tip;
    const line = element("div", { class: `play-row play-row-${id}` }, element("label", { for: control.id }, label), control, shown);
    return { line, control, shown };
  }
  const slider = () => element("input", { type: "range" });
  const menu = (options) => element("select", {}, ...options.map(([v, text]) => element("option", { value: v }, text)));

  // read() -> state, show(state), and the element
  function make(changed) {
    const rows = {
      images: row("images", "images", "what the networks read", menu([["digits", "digits, 8 x 8"], ["photographs", "photographs, 32 x 32"]])),
      left: row("left", "network", "which network is attacked on the left", menu([])),
      right: row("right", "beside it", "which network is attacked on the right", menu([])),
      image: row("image", "image", "number of the test image", slider()),
      label: row("label", "true class", "what the attack leads away from", menu([])),
      ball: row("ball", "ball", "how the size of a change is measured", menu(Object.entries(BALLS))),
      eps: row("eps", "eps", "radius of the ball, in pixel units (0 black, 1 white)", slider()),
      attack: row("attack", "attack", "how the ball is searched", menu(Object.entries(ATTACKS))),
      tau: row("tau", "temperature", "multiplies the logits before the loss; above 1 sharpens", menu([0.01, 0.1, 0.5, 1, 2, 10, 100].map((t) => [t, String(t)]))),
      steps: row("steps", "steps", "steps of the attack", slider()),
      size: row("size", "step size", "in units of eps / steps", slider()),
      start: row("start", "start", "which random start", slider()),
    };
    const range = (id, lo, hi, by) => Object.assign(rows[id].control, { min: lo, max: hi, step: by });
    range("steps", 1, 40, 1);
    range("size", 0.1, 5, 0.1);
    range("start", 0, 20, 1);

    let state = null;
    const fill = (select, options, value) => {
      select.replaceChildren(...options.map(([v, text]) => element("option", { value: v }, text)));
      select.value = value;
    };
    function show(s) {
      state = s;
      const kind = images[s.images], nets = spatPlay.listed()
        .filter((m) => m.name.startsWith(s.images === "digits" ? "digits/" : "cifar10/")).map((m) => [m.name, m.title]);
      fill(rows.left.control, nets, s.left);
      fill(rows.right.control, nets, s.right);
      fill(rows.label.control, [["labelled", "as labelled"], ["said", "what each network says"], ...kind.classes.map((c, k) => [k, c])], s.label);
      range("image", 0, kind.labels.length - 1, 1);
      range("eps", 0, top(s), top(s) / 75);
      for (const id of ["images", "image", "ball", "eps", "attack", "tau", "steps", "size", "start"]) rows[id].control.value = s[id];
      rows.image.shown.textContent = s.own ? "yours" : s.image;
      rows.eps.shown.textContent = s.eps.toFixed(3);
      rows.steps.shown.textContent = s.attack === "fgsm" ? 1 : s.steps;
      rows.size.shown.textContent = `${s.size.toFixed(1)} eps / steps`;
      rows.start.shown.textContent = s.attack === "fgsm" ? "image" : s.start;
      rows.tau.line.hidden = s.attack !== "temperature";
      for (const id of ["steps", "size", "start"]) rows[id].control.disabled = s.attack === "fgsm";
    }
    function read(id) {
      const v = rows[id].control.value;
      const numbers = ["image", "eps", "tau", "steps", "size", "start"];
      const s = { ...state, [id]: numbers.includes(id) ? +v : v };
      if (id === "images") return opening(v);
      if (id === "image") s.own = "";
      // as far to the right as before
      if (id === "ball") s.eps = (state.eps / top(state)) * top(s);
      return s;
    }
    for (const [id, { control }] of Object.entries(rows))
      control.addEventListener("input", () => {
        show(read(id));
        changed(state);
      });
    return { lines: Object.values(rows).map((r) => r.line), show, state: () => state };
  }

  // what an attack is, for the worker
  function how(s) {
    const one = s.attack === "fgsm";
    return {
      ball: s.ball, eps: s.eps, steps: one ? 1 : s.steps, atX: one,
      lr: one ? s.eps : (s.size * s.eps) / s.steps,
      loss: { margin: "margin", temperature: "safe ce" }[s.attack] || "ce",
      tau: s.attack === "temperature" ? s.tau : 1,
    };
  }

  return { make, fromHash, toHash, opening, how, ATTACKS };
})();
