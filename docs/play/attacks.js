/* Attacks in the page: the same loop, losses and balls as `spat_nb.attacks`, one image at a time.

   A model has `logits(x)` and `back(dz)`; what an attack does is written down as a plain object:
   {ball: "Linf" | "L2", eps, loss, tau, steps, lr, atX, passes}. One function, so that the page can
   hand its text to a worker. */
function spatAttacks() {
  "use strict";

  // ---- chance: mulberry32, and a normal number from two of its
  function dice(seed) {
    let a = (seed + 0x9e3779b9) | 0;
    const uniform = () => {
      a = (a + 0x6d2b79f5) | 0;
      let t = Math.imul(a ^ (a >>> 15), 1 | a);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const normal = () =>
      Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return { uniform, normal };
  }

  // ---- losses: (z, y) -> {value, dz}; up is worse for the model
  const best = (z, not = -1) => {
    let k = -1;
    for (let i = 0; i < z.length; i++) if (i !== not && (k < 0 || z[i] > z[k])) k = i;
    return k;
  };
  // in float32, as torch has it: what is too small there is lost here too
  function softmax(z, not = -1) {
    const top = z[best(z, not)];
    const e = Float64Array.from(z, (t, i) => (i === not ? 0 : Math.exp(t - top)));
    const sum = e.reduce((s, t) => s + t, 0);
    return { p: Float32Array.from(e, (t) => t / sum), log: top + Math.log(sum) };
  }
  function ce(z, y) {
    const { p, log } = softmax(z);
    p[y] -= 1;
    return { value: log - z[y], dz: p };
  }
  function margin(z, y) {
    const k = best(z, y), dz = new Float32Array(z.length);
    dz[k] = 1;
    dz[y] = -1;
    return { value: z[k] - z[y], dz };
  }
  // cross-entropy that keeps its gradient where 1 - p_y has lost its digits (`safe_ce`)
  const SURE = 0.75 * Math.log(2 ** -23);
  function safeCe(z, y) {
    const { p, log } = softmax(z, y), odds = log - z[y];
    if (odds > SURE) return ce(z, y);
    p[y] = -1;
    return { value: odds - SURE + Math.log1p(Math.exp(SURE)), dz: p };
  }
  const tempered = (loss, tau) => (z, y) => {
    const { value, dz } = loss(z.map((t) => tau * t), y);
    return { value, dz: dz.map((t) => tau * t) };
  };
  const towards = (z, y) => {
    const { value, dz } = ce(z, y);
    return { value: -value, dz: dz.map((t) => -t) };
  };
  const lossOf = ({ loss, tau = 1 }) =>
    loss === "margin" ? margin
      : loss === "towards" ? towards
        : tempered(loss === "safe ce" ? safeCe : ce, tau);

  // ---- balls
  const length = (d) => Math.sqrt(d.reduce((s, t) => s + t * t, 0));
  const BALLS = {
    Linf: {
      norm: (d) => d.reduce((s, t) => Math.max(s, Math.abs(t)), 0),
      shrink: (d, eps) => d.map((t) => Math.min(eps, Math.max(-eps, t))),
      ascent: (g) => g.map(Math.sign),
      noise: (n, eps, { uniform }) => Float32Array.from({ length: n }, () => eps * (2 * uniform() - 1)),
    },
    L2: {
      norm: length,
      shrink(d, eps) {
        const share = Math.min(1, eps / Math.max(length(d), 1e-12));
        return d.map((t) => share * t);
      },
      ascent(g) {
        const size = Math.max(length(g), 1e-12);
        return g.map((t) => t / size);
      },
      noise(n, eps, { uniform, normal }) {
        const d = Float32Array.from({ length: n }, normal);
        const far = (eps * uniform() ** (1 / n)) / Math.max(length(d), 1e-12);
        return d.map((t) => far * t);
      },
    },
  };
  const box = (x) => x.map((t) => Math.min(1, Math.max(0, t)));
  const minus = (a, b) => a.map((t, i) => t - b[i]);
  const plus = (a, b, s = 1) => a.map((t, i) => t + s * b[i]);
  const project = (z, x, { ball, eps }) => box(plus(x, BALLS[ball].shrink(minus(z, x), eps)));
  const startOf = (x, how, seed) =>
    how.atX ? x : project(plus(x, BALLS[how.ball].noise(x.length, how.eps, dice(seed))), x, how);

  // ---- the loop
  // value, logits and gradient, averaged over `passes` of a model that draws at random
  function look(model, x, y, loss, passes, gradient) {
    let value = 0, z, g;
    for (let k = 0; k < passes; k++) {
      const seen = model.logits(x), { value: v, dz } = loss(seen, y);
      value += v / passes;
      z = z ? plus(z, seen, 1 / passes) : seen.map((t) => t / passes);
      if (!gradient) continue;
      const gk = model.back(dz);
      g = g ? plus(g, gk, 1 / passes) : gk.map((t) => t / passes);
    }
    return { value, z, g };
  }

  // Gradient ascent from `start`; yields each of the steps + 1 points, the last one without gradient
  function* ascend(model, x, y, how, start) {
    const loss = lossOf(how), { ascent } = BALLS[how.ball];
    let at = start;
    for (let i = 0; i <= how.steps; i++) {
      const { value, z, g } = look(model, at, y, loss, how.passes || 1, i < how.steps);
      const lost = g ? g.every((t) => t === 0) : false;
      yield { i, x: at, value, z, won: best(z) !== y, lost };
      if (g) at = project(plus(at, ascent(g), how.lr), x, how);
    }
  }
  const points = (...args) => [...ascend(...args)];

  // ---- a plane to look at it, as `spat_nb.app.plane` and `scene` lay it
  function axes(ds, n) {
    const { normal } = dice(0), found = [];
    const more = [0, 1].map(() => Float32Array.from({ length: n }, normal));
    for (const d of [...ds, ...more]) {
      if (found.length === 2) break;
      let r = Float64Array.from(d);
      const size = length(r);
      for (let twice = 0; twice < 2; twice++)
        for (const e of found) r = plus(r, e, -r.reduce((s, t, i) => s + t * e[i], 0));
      const left = length(r);
      if (left > 1e-3 * size && size > 0) found.push(r.map((t) => t / left));
    }
    return found;
  }
  const along = (d, es) => es.map((e) => d.reduce((s, t, i) => s + t * e[i], 0));

  function plane(model, x, y, how, seen) {
    const end = seen[seen.length - 1], p = [seen.z0, end.z].map((z) => softmax(z).p);
    const both = p[0].map((t, i) => t + p[1][i]);
    both[y] = both[best(p[1])] = -1;
    const aim = best(both);
    const way = { ...how, loss: "towards", steps: 5, lr: how.eps / 2, atX: true, passes: 1 };
    const rival = minus(points(model, x, aim, way, x)[5].x, x);
    const es = axes([minus(end.x, x), rival], x.length);
    const track = seen.map((s) => along(minus(s.x, x), es)), other = along(rival, es);
    const spots = [...track, other, [0, 0]];
    const span = [0, 1].map((k) => spots.map((s) => s[k]));
    const lo = span.map((s) => Math.min(...s)), hi = span.map((s) => Math.max(...s));
    const half = Math.max(0.68 * Math.max(hi[0] - lo[0], hi[1] - lo[1]), 0.03 * Math.sqrt(x.length));
    const middle = [0, 1].map((k) => (lo[k] + hi[k]) / 2);
    return { aim, es, track, rival: other, half, middle };
  }

  // loss, lead of a wrong class, answer and distance from x, at one point of the plane
  function spot(model, x, y, how, es, u, v) {
    const d = Float32Array.from(x, (_, i) => u * es[0][i] + v * es[1][i]);
    const z = model.logits(box(plus(x, d)));
    return [lossOf(how)(z, y).value, margin(z, y).value, best(z), BALLS[how.ball].norm(d)];
  }

  // ---- defences that only look robust
  // logits times a thousand: a probability of 1 has no gradient
  const scaled = (model, by = 1000) => ({
    logits: (x) => model.logits(x).map((t) => by * t),
    back: (dz) => model.back(dz.map((t) => by * t)),
  });
  // pixels in eight levels: stairs are flat. A stand-in passes the gradient on as if they were not
  const stairs = (model, standIn, levels = 8) => ({
    logits: (x) => model.logits(x.map((t) => Math.round(t * (levels - 1)) / (levels - 1))),
    back: (dz) => (standIn ? model.back(dz) : model.back(dz).fill(0)),
  });
  // ripples, placed anew at each look: steep, and the slope points anywhere
  function ripples(model, seed, high = 0.01, often = 800) {
    const { uniform } = dice(seed);
    let slope;
    return {
      logits(x) {
        const phase = Float64Array.from(x, (t) => often * t + 2 * Math.PI * uniform());
        slope = phase.map((t) => 1 + high * often * Math.cos(t));
        return model.logits(x.map((t, i) => t + high * Math.sin(phase[i])));
      },
      back: (dz) => model.back(dz).map((t, i) => t * slope[i]),
    };
  }
  const MASKS = {
    none: (model) => model,
    sure: (model) => scaled(model),
    stairs: (model, remedy) => stairs(model, remedy === "stand-in"),
    ripples: (model, remedy, seed) => ripples(model, seed),
  };
  const REMEDIES = {
    plain: { loss: "ce" },
    margin: { loss: "margin" },
    temperature: { loss: "ce", tau: 0.001 },
    averaging: { loss: "ce", passes: 64 },
    "stand-in": { loss: "ce" },
  };
  // what is counted on each image: is it fooled in the end, and at how many steps was there no gradient
  function* siege(model, mask, remedy, x, y, { ball, eps, steps, seed }) {
    const shown = MASKS[mask](model, remedy, seed);
    const how = { ball, eps, steps, lr: (2.5 * eps) / steps, ...REMEDIES[remedy] };
    if (mask !== "ripples") how.passes = 1; // every look is the same, and so is their mean
    let lost = 0, last;
    for (const s of ascend(shown, x, y, how, startOf(x, how, seed))) {
      last = s;
      lost += s.lost;
      yield { i: s.i, steps };
    }
    const z = look(shown, last.x, y, ce, mask === "ripples" ? 32 : 1, false).z;
    yield { done: true, fooled: best(z) !== y, answer: best(z), lost, x: last.x };
  }

  return {
    BALLS, MASKS, REMEDIES, ascend, best, dice, lossOf, minus, plane, points, siege, softmax, spot,
    startOf,
  };
}
