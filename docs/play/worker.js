/* What a worker of the page does: networks come in once, then requests; answers go out in parts, so
   that a picture grows while the rest is computed. A newer request ends an older one. */
function spatWorker(engine, attacks) {
  "use strict";
  const nets = {};
  let latest = 0, clock = 0;
  const channel = new MessageChannel(), waiting = [];
  channel.port1.onmessage = () => waiting.shift()();
  // let messages in, at most every `ms`; false where the work is of no use any more
  async function goOn(id, ms = 40) {
    if (performance.now() - clock < ms) return true;
    await new Promise((done) => {
      waiting.push(done);
      channel.port2.postMessage(0);
    });
    clock = performance.now();
    return id === latest;
  }

  async function play({ id, name, x, label, how, seed, grids }) {
    const model = nets[name], z0 = model.logits(x), y = label < 0 ? attacks.best(z0) : label;
    const seen = [];
    for (const s of attacks.ascend(model, x, y, how, attacks.startOf(x, how, seed))) {
      seen.push(s);
      if (performance.now() - clock > 40) postMessage({ kind: "step", id, i: s.i, of: how.steps });
      if (!(await goOn(id))) return;
    }
    seen.z0 = z0;
    const last = seen[seen.length - 1];
    postMessage({
      kind: "attack", id, y, how, p: [z0, last.z].map((z) => attacks.softmax(z).p), xAdv: last.x, change: attacks.minus(last.x, x),
      norm: attacks.BALLS[how.ball].norm(attacks.minus(last.x, x)),
      far: attacks.BALLS.L2.norm(attacks.minus(last.x, x)),
      losses: seen.map((s) => s.value), won: seen.map((s) => s.won), lost: seen.map((s) => s.lost),
    });
    const flat = attacks.plane(model, x, y, how, seen);
    for (const n of grids) if (!(await land(id, model, x, y, how, flat, n))) return;
    postMessage({ kind: "done", id });
  }

  async function land(id, model, x, y, how, flat, n) {
    const { es, half, middle, track, rival, aim } = flat;
    const rows = { values: [], lead: [], said: [], norms: [] };
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const at = (k, m) => middle[m] + half * ((2 * k) / (n - 1) - 1);
        const seen = attacks.spot(model, x, y, how, es, at(j, 0), at(i, 1));
        Object.values(rows).forEach((row, k) => row.push(seen[k]));
        if (!(await goOn(id))) return false;
      }
    postMessage({ kind: "land", id, n, eps: how.eps, half, middle, track, rival, aim, ...rows });
    return true;
  }

  async function siege({ id, name, mask, remedy, xs, labels, setting }) {
    for (let k = 0; k < xs.length; k++)
      for (const s of attacks.siege(nets[name], mask, remedy, xs[k], labels[k], setting)) {
        if (s.done) postMessage({ kind: "sieged", id, k, ...s, of: xs.length });
        else if (performance.now() - clock > 40)
          postMessage({ kind: "step", id, i: k * (s.steps + 1) + s.i, of: xs.length * (s.steps + 1) });
        if (!(await goOn(id))) return;
      }
    postMessage({ kind: "done", id });
  }

  const WORK = { play, siege };
  onmessage = ({ data }) => {
    if (data.kind === "network") nets[data.about.name] = engine.network(data.about, data.text);
    else {
      latest = data.id;
      clock = performance.now();
      WORK[data.kind](data).catch((e) => postMessage({ kind: "error", id: data.id, said: String(e) }));
    }
  };
}
