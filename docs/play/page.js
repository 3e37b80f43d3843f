/* The page: controls, one card for each of two networks, and what is said of them */
(() => {
  "use strict";
  const { element, draw, controls, own, images } = spatPlay;
  const root = document.getElementById("spat-play");
  if (!root) return;

  // ---- a card: one network under the attack
  const figure = (title, canvas) => {
    const below = element("span", { class: "play-below" });
    return { figure: element("figure", {}, element("figcaption", {}, title), canvas, below), canvas, below };
  };
  function card(side) {
    const picture = () => element("canvas", { class: "play-picture", role: "img" });
    const parts = {
      clean: figure("Clean image", picture()),
      change: figure("The change", picture()),
      attacked: figure("Attacked image", picture()),
      belief: figure("What the network believes", element("div", { role: "img", class: "play-bars" })),
      loss: figure("The loss, step by step", element("div", { role: "img", class: "play-curve" })),
      land: figure("The loss around the image", element("canvas", { class: "play-land", role: "img", "aria-label": "The loss around the image" })),
    };
    const title = element("h3", {}), record = element("p", { class: "play-record" });
    const verdict = element("p", { class: "play-verdict" });
    const busy = element("progress", { "aria-label": "progress", hidden: true });
    const words = element("p", { class: "play-words" });
    const scale = element("div", { class: "play-scale" });
    parts.land.figure.append(scale);
    const group = (name, ...ids) => element("div", { class: `play-${name}` }, ...ids.map((id) => parts[id].figure));
    const box = element("section", { class: "play-card", "data-side": side },
      title, record, verdict, busy, words, group("pictures", "clean", "change", "attacked"),
      group("charts", "belief", "loss"), group("ground", "land"));
    return { parts, title, record, verdict, busy, words, scale, box, seen: null, ground: null, isNear: false };
  }

  function say(c, s, classes) {
    const [p, q] = s.p, a = most(p), b = most(q), { ball, eps } = s.how, first = s.won.indexOf(true);
    c.verdict.textContent = a !== s.y ? `Wrong before the attack: ${classes[s.y]} is read as ${classes[a]}.`
      : b === s.y ? `It holds: still read as ${classes[b]}.` : `Fooled: ${classes[a]} is read as ${classes[b]}.`;
    c.box.dataset.fooled = b !== s.y;
    const lost = s.lost.filter(Boolean).length;
    c.words.textContent = `Clean: ${classes[a]} (${draw.percent(p[a])}). Attacked: ${b === s.y ? "still " : ""}`
      + `${classes[b]} (${draw.percent(q[b])})${b !== s.y && a === s.y && first >= 0 ? `, fooled at step ${first} for the first time` : ""}.`
      + ` The change is ${draw.short(s.norm)} of ${draw.short(eps)} long (${ball}), ${draw.short(s.far)} in Euclidean length.`
      + (lost ? ` At ${lost} of ${s.how.steps} steps the gradient was exactly 0.` : "");
    const told = {
      clean: `read as ${classes[a]} (${draw.percent(p[a])})`,
      attacked: `read as ${classes[b]} (${draw.percent(q[b])})`,
    };
    for (const [k, text] of Object.entries(told)) {
      c.parts[k].below.textContent = text;
      c.parts[k].below.className = `play-below ${text.includes(`as ${classes[s.y]} (`) ? "is-right" : "is-wrong"}`;
      c.parts[k].canvas.setAttribute("aria-label", `the ${k} image, ${text}`);
    }
  }
  const most = (p) => p.reduce((k, t, i) => (t > p[k] ? i : k), 0);

  function showAttack(c, s, x) {
    const { shape, classes } = c.about, [p, q] = s.p;
    const full = Math.max(s.how.ball === "Linf" ? s.how.eps : s.change.reduce((m, t) => Math.max(m, Math.abs(t)), 0), 1 / 255);
    c.seen = s;
    draw.picture(c.parts.clean.canvas, x, shape);
    draw.change(c.parts.change.canvas, s.change, shape, full);
    draw.picture(c.parts.attacked.canvas, s.xAdv, shape);
    c.parts.change.below.textContent = `up to ±${draw.short(full)} (pixel units)`;
    c.parts.change.canvas.setAttribute("aria-label", `the change, ${draw.short(s.norm)} long`);
    say(c, s, classes);
    c.parts.belief.canvas.replaceChildren(draw.bars(s.p, classes, s.y));
    c.parts.belief.canvas.setAttribute("aria-label", `probabilities of the classes, before: ${classes[most(p)]}, after: ${classes[most(q)]}`);
    c.parts.loss.canvas.replaceChildren(draw.curve(s.losses, s.won));
    const ends = [s.losses[0], s.losses[s.losses.length - 1]].map(draw.short);
    c.parts.loss.canvas.setAttribute("aria-label", `the loss goes from ${ends.join(" to ")}, fooled at ${s.won.filter(Boolean).length} points`);
    c.ground = null;
  }

  function showLand(c, land) {
    c.ground = land;
    const [low, high] = draw.range(land).map(draw.short);
    c.parts.land.canvas.setAttribute("aria-label",
      `a map of the loss around the image, from ${low} to ${high}, with the path of the attack`);
    c.scale.replaceChildren(`loss ${low}`, element("span", { class: "play-strip" }), high);
    const rival = `The diamond is the end of a second attack, sent to ${c.about.classes[land.aim]}.`;
    c.parts.land.below.textContent = rival;
    if (c.isNear) paint(c);
  }

  // a landscape is much to draw: that is done when it is on the screen, or nearly
  function paint(c) {
    const strip = draw.landscape(c.parts.land.canvas, c.ground, c.about.classes);
    c.scale.querySelector(".play-strip").style.background = strip;
  }
  const near = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      const c = Object.values(cards).find((one) => one.parts.land.canvas === target);
      c.isNear = isIntersecting;
      if (c.isNear && c.ground) paint(c);
    }
  }, { rootMargin: "300px" });

  // ---- the page
  const cards = { left: card("left"), right: card("right") };
  const said = element("p", { class: "play-error", role: "alert" });
  const status = element("p", { class: "play-status", role: "status", "aria-live": "polite" });
  const seconds = (spatPlay.seconds = []); // of every change, until both attacks are shown
  let id = 0, begun = 0, waiting = 0, state, workers, about;

  function hear(side, data) {
    const c = cards[side];
    if (data.id !== id) return;
    if (data.kind === "error") return fail(new Error(data.said));
    if (data.kind === "step") {
      c.busy.hidden = false;
      c.busy.max = data.of;
      c.busy.value = data.i;
    }
    if (data.kind === "attack") {
      showAttack(c, data, imageOf(state));
      c.busy.removeAttribute("value"); // the landscape is on its way
      c.box.classList.add("is-waiting");
      if (--waiting === 0) {
        seconds.push((performance.now() - begun) / 1000);
        status.textContent = ["left", "right"].map((k) => `${cards[k].about.title}: ${cards[k].verdict.textContent}`).join(" ");
        root.dataset.shown = id;
      }
    }
    if (data.kind === "land") showLand(c, data);
    if (data.kind === "done") {
      c.busy.hidden = true;
      c.box.classList.remove("is-waiting");
      c.box.dataset.done = id;
    }
  }

  const imageOf = (s) => {
    const kind = images[s.images], n = kind.shape.reduce((a, b) => a * b);
    return s.own ? own.fromText(s.own, n) : kind.x(s.image);
  };
  function fail(e) {
    said.textContent = e.message;
    for (const c of Object.values(cards)) c.busy.hidden = true;
  }

  async function update(s, write = true) {
    state = s;
    id += 1;
    begun = performance.now();
    waiting = 2;
    root.dataset.asked = id;
    const mine = id, x = imageOf(s), digits = s.images === "digits";
    said.textContent = "";
    drawn.hidden = !digits;
    if (write) remember();
    const label = s.label === "said" || (s.own && s.label === "labelled") ? -1
      : s.label === "labelled" ? images[s.images].labels[s.image] : +s.label;
    for (const side of ["left", "right"]) {
      const c = cards[side];
      try {
        c.about = (await spatPlay.load(s[side])).about;
        if (mine !== id) return;
        c.title.textContent = c.about.title;
        c.record.textContent = c.about.record;
        await workers[side]({
          kind: "play", id, name: s[side], x, label, how: controls.how(s), seed: s.start,
          grids: digits ? [13, 25] : [7, 17],
        });
      } catch (e) {
        fail(e);
      }
    }
  }
  function remember() {
    const text = controls.toHash(state, spatPlay.siege.told());
    history.replaceState(null, "", `${location.pathname}${location.search}${text ? `#${text}` : ""}`);
  }
  spatPlay.remember = () => state && remember();

  // ---- own images
  const pad = own.pad((x) => take(x));
  const drawn = element("details", { class: "play-draw" }, element("summary", {}, "Draw a digit"),
    pad.canvas, element("div", {}, element("button", { type: "button", onclick: () => pad.set(null) }, "Wipe")));
  const file = element("input", {
    type: "file", accept: "image/*", id: "play-file",
    title: "an image file; it is made as small as the images of the data set",
    onchange: async () => {
      if (!file.files.length) return;
      try {
        take(await own.image(file.files[0], images[state.images].shape));
      } catch (e) {
        fail(e);
      }
      file.value = "";
    },
  });
  function take(x) {
    const s = { ...menu.state(), own: own.text(x) };
    menu.show(s);
    update(s);
  }

  // ---- put together
  const menu = controls.make((s) => update(s));
  const again = () => {
    pad.set(null);
    const s = controls.opening(menu.state().images);
    menu.show(s);
    update(s);
  };
  const legend = element("p", { class: "play-legend" },
    ...[["clean", "clean"], ["attacked", "attacked"], ["band", "true class"], ["ring", "holds"], ["dot", "fooled"],
      ["edge", "edge of the ball"], ["dash", "right or wrong"], ["rival", "another attack"]]
      .map(([k, text]) => element("span", {}, element("i", { class: `play-key play-key-${k}`, "aria-hidden": "true" }), text)));

  function start() {
    workers = Object.fromEntries(["left", "right"].map((side) => [side, spatPlay.worker((d) => hear(side, d))]));
    root.replaceChildren(
      element("p", { class: "play-todo" }, "Move ", element("b", {}, "eps"), " to the left until the network holds."
        + " Then try another network, image or attack, or draw a digit of your own."),
      element("div", { class: "play-grid" },
        element("form", { class: "play-menu", "aria-label": "What is attacked, and how", onsubmit: (e) => e.preventDefault() },
          ...menu.lines, element("div", { class: "play-row" }, element("label", { for: "play-file" }, "your own"), file), drawn,
          element("button", { type: "button", onclick: again, title: "all controls as they were at the beginning" }, "Start again")),
        element("div", { class: "play-shown" }, said, legend,
          element("div", { class: "play-pair" }, cards.left.box, cards.right.box))), status);
    const begin = () => {
      const s = controls.fromHash(location.hash);
      pad.set(s.own && s.images === "digits" ? imageOf(s) : null);
      menu.show(s);
      update(s, false);
    };
    window.addEventListener("hashchange", () => {
      begin();
      spatPlay.siege.again();
    });
    // colours of canvases do not follow the page by themselves
    const repaint = () => {
      for (const c of Object.values(cards)) if (c.ground && c.isNear) paint(c);
    };
    const watch = new MutationObserver(repaint);
    watch.observe(document.documentElement, { attributeFilter: ["data-theme", "class"] });
    watch.observe(document.body, { attributeFilter: ["class"] });
    for (const c of Object.values(cards)) near.observe(c.parts.land.canvas);
    spatPlay.siege.start();
    begin();
  }
  start();
})();
