/* "Break this defence": three masks around one ordinary network, and the reader brings them down */
spatPlay.siege = (() => {
  "use strict";
  const { element, draw, images } = spatPlay;
  const NETWORK = "digits/standard/w16";
  const NUMBERS = [35, 36, 37, 38, 39]; // digits that fall to each of the attacks where there is no mask
  const SETTING = { ball: "Linf", eps: 0.15, steps: 20, seed: 0 };

  const MASKS = {
    none: { title: "No defence", about: "The network as it is: an ordinary one, never trained against attacks." },
    sure: { title: "The sure one", about: "Its answers come with a probability of exactly 1." },
    stairs: { title: "The stairs", about: "It rounds each pixel to one of eight tones before it looks." },
    ripples: { title: "The dice", about: "Each look is through fine ripples of glass, thrown anew." },
  };
  const REMEDIES = {
    plain: "PGD on cross-entropy, as it is",
    margin: "another loss: the margin",
    temperature: "a temperature: logits divided by 1,000",
    averaging: "averaging: the mean gradient of 64 looks (EoT)",
    "stand-in": "a smooth stand-in for rounding on the way back (BPDA)",
  };
  const lesson = (page, text) => element("a", { href: page }, text);
  const WHY = {
    none: { falls: "There is nothing to bring down: any of these attacks finds the way. Now put a mask on." },
    sure: {
      opens: ["margin", "temperature"],
      falls: "The mask multiplies the logits by 1,000. Then softmax rounds to 1 and 0, and cross-entropy is flat, though the answers"
        + " are those of the bare network. The margin is a difference of logits, and a temperature undoes the factor: both have a gradient again.",
      holds: "The mask multiplies the logits by 1,000, so the probability of the answer is rounded to 1. What does cross-entropy do there?",
      link: () => lesson("31_temperature.html", "Temperature: where a loss loses its gradient"),
    },
    stairs: {
      opens: ["stand-in"],
      falls: "Rounding is a staircase: flat on every step, so its gradient is 0. On the way back the stand-in takes it for a ramp, which"
        + " it is from afar, and the gradient of the bare network comes through.",
      holds: "A staircase is flat on every step. No loss, and no mean of many zeros, brings back a gradient that the rounding swallowed.",
      link: () => lesson("21_trust.html", "Trust: a gradient that is there, and true"),
    },
    ripples: {
      opens: ["averaging"],
      falls: "At each look the gradient is large and points anywhere, by chance: over 64 looks that cancels, and the gradient of the bare network is left.",
      holds: "At each look the gradient is large and points anywhere, and 20 steps along it are a walk at random. Another loss reads the same dice.",
      link: () => lesson("12_attack.html", "The engine: models that draw at random"),
    },
  };

  const state = { mask: "none", remedy: "plain" };
  const down = new Set();
  let id = 0, worker, parts, fallen = [];

  function choice(name, options) {
    return element("fieldset", {}, element("legend", {}, name === "mask" ? "The defence" : "Your attack"),
      ...Object.entries(options).map(([v, text]) => element("label", {},
        element("input", { type: "radio", name: `play-${name}`, value: v, checked: state[name] === v, onchange: () => {
          state[name] = v;
          spatPlay.remember();
          tell();
        } }), ` ${text.title || text}`)));
  }

  function tell() {
    id += 1;
    fallen = [];
    // nothing to do: ends what is being done
    worker?.({ kind: "siege", id, name: NETWORK, xs: [], labels: [], setting: SETTING });
    parts.busy.hidden = true;
    parts.about.textContent = MASKS[state.mask].about;
    parts.result.replaceChildren();
    parts.row.replaceChildren();
    delete parts.box.dataset.result;
  }

  async function attack() {
    id += 1;
    fallen = [];
    parts.row.replaceChildren();
    parts.result.textContent = "Attacking ...";
    delete parts.box.dataset.result;
    parts.busy.hidden = false;
    parts.busy.removeAttribute("value");
    worker ||= spatPlay.worker(hear);
    const shelf = images.digits;
    await worker({
      kind: "siege", id, name: NETWORK, mask: state.mask, remedy: state.remedy, setting: SETTING,
      xs: NUMBERS.map(shelf.x), labels: NUMBERS.map((k) => shelf.labels[k]),
    });
  }

  function hear(data) {
    if (data.id !== id) return;
    if (data.kind === "step") [parts.busy.max, parts.busy.value] = [data.of, data.i];
    if (data.kind === "sieged") {
      fallen.push(data);
      const label = images.digits.labels[NUMBERS[data.k]], canvas = element("canvas", { role: "img", class: "play-picture" });
      const text = data.fooled ? `${label} is read as ${data.answer}` : `${label} holds`;
      canvas.setAttribute("aria-label", text);
      draw.picture(canvas, data.x, [1, 8, 8]);
      parts.row.append(element("figure", { class: data.fooled ? "is-wrong" : "is-right" }, canvas, element("figcaption", {}, text)));
    }
    if (data.kind === "done" && fallen.length) finish();
    if (data.kind === "error") parts.result.textContent = data.said;
  }

  function finish() {
    const n = fallen.filter((f) => f.fooled).length, lost = fallen.reduce((s, f) => s + f.lost, 0);
    const steps = NUMBERS.length * SETTING.steps, falls = n >= NUMBERS.length - 1, why = WHY[state.mask];
    parts.busy.hidden = true;
    parts.box.dataset.result = falls ? "falls" : "holds";
    parts.box.dataset.fooled = n;
    if (falls && why.opens) down.add(state.mask);
    const zero = lost ? ` At ${lost} of ${steps} steps the gradient was exactly 0.` : " There was a gradient at every step.";
    parts.result.replaceChildren(
      element("b", {}, falls ? "It falls. " : "It holds. "), `${n} of ${NUMBERS.length} digits are fooled.${zero} `,
      (falls ? why.falls : why.holds) || "", " ", ...(why.link ? [why.link(), "."] : []));
    parts.score.textContent = `Brought down: ${down.size} of 3.`
      + (down.size === 3 ? " None of them was robust: an attack that fails is no proof, as long as one that fits was not tried." : "");
  }

  function start() {
    const root = document.getElementById("spat-siege");
    if (!root) return;
    fromHash();
    parts = {
      about: element("p", {}), result: element("p", { role: "status", "aria-live": "polite" }), row: element("div", { class: "play-row-of-five" }),
      busy: element("progress", { "aria-label": "progress", hidden: true }), score: element("p", { class: "play-score" }, "Brought down: 0 of 3."),
    };
    parts.box = element("div", { class: "play-siege-box" },
      element("div", { class: "play-choices" }, choice("mask", MASKS), choice("remedy", REMEDIES)), parts.about,
      element("button", { type: "button", class: "play-go", onclick: attack }, "Attack"), parts.busy, parts.row, parts.result, parts.score);
    root.replaceChildren(parts.box);
    tell();
  }

  function fromHash() {
    const given = new URLSearchParams(location.hash.slice(1));
    state.mask = given.get("mask") in MASKS ? given.get("mask") : "none";
    state.remedy = given.get("remedy") in REMEDIES ? given.get("remedy") : "plain";
  }
  // the address was changed by hand, or by a link
  function again() {
    fromHash();
    for (const [name, value] of Object.entries(state))
      parts.box.querySelector(`input[name=play-${name}][value=${value}]`).checked = true;
    tell();
  }

  const told = () => ({
    mask: state.mask !== "none" && state.mask, remedy: state.remedy !== "plain" && state.remedy,
  });
  return { start, again, told, MASKS, REMEDIES, WHY };
})();
