/* The panels of the playground: pictures, probabilities, the loss along the steps, the landscape.
   Colours are those of play.css, which has them for a light page and for a dark one. */
spatPlay.draw = (() => {
  "use strict";
  const { element } = spatPlay;
  const SVG = "http://www.w3.org/2000/svg";
  function svg(tag, attributes, ...inside) {
    const e = document.createElementNS(SVG, tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    e.append(...inside);
    return e;
  }
  const percent = (t) => `${Math.round(100 * t)}%`;
  const short = (t) => (Math.abs(t) >= 1000 || (t && Math.abs(t) < 0.01) ? t.toExponential(1)
    : String(+t.toPrecision(3)));

  // ---- pictures
  function picture(canvas, x, [ch, h, w]) {
    canvas.width = w;
    canvas.height = h;
    const img = new ImageData(w, h);
    for (let t = 0; t < h * w; t++) {
      for (let c = 0; c < 3; c++)
        img.data[4 * t + c] = Math.round(255 * x[(ch === 3 ? c : 0) * h * w + t]);
      img.data[4 * t + 3] = 255;
    }
    canvas.getContext("2d").putImageData(img, 0, 0);
  }
  // of each pixel's channels, the largest change: blue is darker, white is none, red is brighter
  const REDS_BLUES = ["#053061", "#4393c3", "#f7f7f7", "#d6604d", "#67001f"];
  function change(canvas, d, shape, full) {
    const [ch, h, w] = shape, n = h * w, stops = REDS_BLUES.map(rgb);
    const x = new Float32Array(3 * n);
    for (let t = 0; t < n; t++) {
      let most = 0;
      for (let c = 0; c < ch; c++) if (Math.abs(d[c * n + t]) > Math.abs(most)) most = d[c * n + t];
      colour(stops, 0.5 + most / (2 * full)).forEach((v, c) => (x[c * n + t] = v / 255));
    }
    picture(canvas, x, [3, h, w]);
  }

  // ---- probabilities before and after
  function bars([p, q], classes, y) {
    const row = 20, left = 80, wide = 300, box = svg("svg", { viewBox: `0 0 ${wide} ${10 * row + 4}` });
    const across = wide - left - 40;
    classes.forEach((name, k) => {
      const at = k * row + 2;
      if (k === y) box.append(svg("rect", { class: "band", x: 0, y: at, width: wide, height: row }));
      box.append(svg("text", { x: left - 6, y: at + 14, "text-anchor": "end" }, name));
      [[p[k], "clean"], [q[k], "attacked"]].forEach(([v, kind], i) =>
        box.append(svg("rect", { class: kind, x: left, y: at + 2 + 8 * i, height: 7, width: v * across })));
      const most = Math.max(p[k], q[k]);
      if (most >= 0.01)
        box.append(svg("text", { class: "after", x: left + most * across + 4, y: at + 14 }, percent(q[k])));
    });
    box.append(svg("line", { class: "axis", x1: left, x2: left, y1: 0, y2: 10 * row + 4 }));
    return box;
  }

  // ---- the loss along the steps; a full dot where the network is fooled
  function curve(losses, won) {
    const wide = 300, high = 170, left = 58, low = 140, n = Math.max(1, losses.length - 1);
    const bottom = Math.min(...losses), top = Math.max(...losses, bottom + 1e-9);
    const at = (i, v) => [left + (i * (wide - left - 14)) / n, low - ((v - bottom) * (low - 14)) / (top - bottom)];
    const box = svg("svg", { viewBox: `0 0 ${wide} ${high}` });
    box.append(svg("line", { class: "axis", x1: left, x2: wide, y1: low + 6, y2: low + 6 }));
    box.append(svg("line", { class: "axis", x1: left - 6, x2: left - 6, y1: 6, y2: low + 6 }));
    for (const v of [bottom, top]) {
      const y = at(0, v)[1] + 4;
      box.append(svg("text", { x: left - 10, y, "text-anchor": "end" }, short(v)));
    }
    for (const i of [0, n])
      box.append(svg("text", { x: at(i, top)[0], y: low + 22, "text-anchor": "middle" }, i));
    box.append(svg("text", { x: (wide + left) / 2, y: low + 22, "text-anchor": "middle" }, "step"));
    const line = losses.map((v, i) => at(i, v).join()).join(" ");
    box.append(svg("polyline", { class: "way", points: line }));
    losses.forEach((v, i) => {
      const [cx, cy] = at(i, v);
      box.append(svg("circle", { class: won[i] ? "dot won" : "dot", cx, cy, r: 4 }));
    });
    return box;
  }

  // ---- the landscape
  // colours of the page by name; asked for once a picture, since each asking may lay the page out
  function inks(canvas) {
    const style = getComputedStyle(canvas);
    return (name) => style.getPropertyValue(`--play-${name}`).trim();
  }
  function rgb(hex) {
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  }

  // colours of heights, in between straight
  function colour(stops, t) {
    const at = Math.min(stops.length - 1.000001, Math.max(0, t) * (stops.length - 1));
    const i = Math.floor(at);
    return stops[i].map((a, c) => a + (at - i) * (stops[i + 1][c] - a));
  }

  // where a value is crossed, cell by cell: ends of short lines, in steps of the grid
  function* crossings(values, n, level) {
    for (let i = 0; i < n - 1; i++)
      for (let j = 0; j < n - 1; j++) {
        const corner = [[j, i], [j + 1, i], [j + 1, i + 1], [j, i + 1]], ends = [];
        for (let k = 0; k < 4; k++) {
          const a = corner[k], b = corner[(k + 1) % 4];
          const va = values[a[1] * n + a[0]] - level, vb = values[b[1] * n + b[0]] - level;
          if (va < 0 !== vb < 0) {
            const t = va / (va - vb);
            ends.push([a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]);
          }
        }
        for (let k = 0; k + 1 < ends.length; k += 2) yield [ends[k], ends[k + 1]];
      }
  }

  // the place of a class that is farthest from other answers
  function middle(said, n, k) {
    let best = null, far = 0;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        if (said[i * n + j] !== k) continue;
        let d = Math.min(i, j, n - 1 - i, n - 1 - j) + 1;
        for (let a = 0; a < n; a++)
          for (let b = 0; b < n; b++)
            if (said[a * n + b] !== k) d = Math.min(d, Math.hypot(a - i, b - j));
        if (d > far) [best, far] = [[j, i], d];
      }
    return best;
  }

  function star(pen, [x, y], r) {
    pen.beginPath();
    for (let k = 0; k < 10; k++) {
      const a = (Math.PI * k) / 5 - Math.PI / 2, s = k % 2 ? 0.45 * r : r;
      pen.lineTo(x + s * Math.cos(a), y + s * Math.sin(a));
    }
    pen.closePath();
  }

  // the lowest loss of a landscape and the highest one
  function range({ values }) {
    const low = Math.min(...values);
    return [low, Math.max(...values, low + 1e-6)];
  }

  // land: values on a grid of the plane, and the way through it; gives the colours of its scale
  function landscape(canvas, land, classes) {
    const side = 720, { n, values, lead, said, norms, half, middle: centre } = land;
    const ink = inks(canvas), [low, high] = range(land);
    const stops = ["low", "below", "half", "above", "high"].map((k) => rgb(ink(k)));
    canvas.width = canvas.height = side;
    const pen = canvas.getContext("2d");
    const gamma = low >= 0 ? 0.5 : 1; // cross-entropy is flat below and steep above
    const tone = (v) => colour(stops, ((v - low) / (1.7 * (high - low))) ** gamma);
    const small = element("canvas");
    small.width = small.height = n;
    const img = new ImageData(n, n);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++)
        img.data.set([...tone(values[(n - 1 - i) * n + j]), 255], 4 * (i * n + j));
    small.getContext("2d").putImageData(img, 0, 0);
    pen.imageSmoothingQuality = "high";
    // a value stands in the middle of its cell, and the first and the last on the rim
    pen.drawImage(small, 0.5, 0.5, n - 1, n - 1, 0, 0, side, side);
    const cell = side / (n - 1);
    const spot = ([j, i]) => [j * cell, side - i * cell];
    const place = (uv) => spot(uv.map((t, k) => ((t - centre[k]) / half + 1) * (n - 1) / 2));
    const line = (ends, width, dash = []) => {
      pen.setLineDash(dash);
      pen.lineWidth = width;
      pen.beginPath();
      for (const [a, b] of ends) {
        pen.moveTo(...spot(a));
        pen.lineTo(...spot(b));
      }
      pen.stroke();
    };
    pen.strokeStyle = ink("ink");
    line(crossings(norms, n, land.eps), 2.5);
    line(crossings(lead, n, 0), 3.5, [12, 9]);
    pen.setLineDash([]);
    pen.fillStyle = ink("ink");
    pen.font = "bold 30px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    classes.forEach((name, k) => {
      if (said.filter((s) => s === k).length < 0.03 * n * n) return;
      const [x, y] = spot(middle(said, n, k)), wide = pen.measureText(name).width / 2 + 6;
      pen.fillText(name, Math.min(side - wide, Math.max(wide, x)), Math.min(side - 20, Math.max(20, y)));
    });
    marks(ink, pen, land, place);
    return strip(stops, gamma);
  }

  function strip(stops, gamma) {
    const at = Array.from({ length: 9 }, (_, i) => colour(stops, (i / 8 / 1.7) ** gamma));
    return `linear-gradient(to right, ${at.map((c) => `rgb(${c.map(Math.round)})`).join()})`;
  }

  function marks(ink, pen, { track, rival }, place) {
    const edge = ink("edge");
    pen.strokeStyle = pen.fillStyle = ink("attacked");
    pen.lineWidth = 4;
    pen.beginPath();
    track.forEach((uv) => pen.lineTo(...place(uv)));
    pen.stroke();
    for (const uv of track) {
      pen.beginPath();
      pen.arc(...place(uv), 6, 0, 7);
      pen.fill();
    }
    const mark = (shape, name) => {
      shape();
      pen.fillStyle = ink(name);
      pen.strokeStyle = edge;
      pen.lineWidth = 2;
      pen.fill();
      pen.stroke();
    };
    const [x, y] = place([0, 0]), [a, b] = place(rival);
    mark(() => {
      pen.beginPath();
      pen.arc(x, y, 12, 0, 7);
    }, "ink");
    mark(() => {
      pen.beginPath();
      for (const [s, t] of [[0, -13], [13, 0], [0, 13], [-13, 0]]) pen.lineTo(a + s, b + t);
      pen.closePath();
    }, "rival");
    mark(() => star(pen, place(track[track.length - 1]), 21), "attacked");
  }

  return { picture, change, bars, curve, range, landscape, percent, short };
})();
