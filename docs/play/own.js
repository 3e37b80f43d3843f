/* Images of the reader's: a drawing for networks that read digits, a file for both kinds */
spatPlay.own = (() => {
  "use strict";
  const { element } = spatPlay;
  const SIDE = 8;

  // ---- a pad of 8 x 8 pixels: by finger or mouse, or by arrow keys and space
  function pad(changed) {
    let levels = new Float32Array(SIDE * SIDE), at = [3, 3], last = null;
    const canvas = element("canvas", {
      class: "play-pad", width: 240, height: 240, tabindex: 0, role: "application",
      "aria-label": "Drawing pad of 8 by 8 pixels. Arrow keys move, space draws, delete wipes.",
    });
    function show(cursor) {
      const pen = canvas.getContext("2d"), s = canvas.width / SIDE;
      levels.forEach((t, i) => {
        pen.fillStyle = `rgb(${[0, 0, 0].fill(Math.round(255 * t))})`;
        pen.fillRect((i % SIDE) * s, Math.floor(i / SIDE) * s, s, s);
      });
      if (!cursor) return;
      pen.strokeStyle = "#E69F00";
      pen.lineWidth = 4;
      pen.strokeRect(at[0] * s + 2, at[1] * s + 2, s - 4, s - 4);
    }
    // a soft pen, a little over a pixel wide
    function dab([x, y]) {
      for (let i = 0; i < SIDE; i++)
        for (let j = 0; j < SIDE; j++) {
          const d = Math.hypot(j + 0.5 - x, i + 0.5 - y);
          const t = Math.min(1, Math.max(0, 1.3 - d));
          levels[i * SIDE + j] = Math.max(levels[i * SIDE + j], Math.round(16 * t) / 16);
        }
    }
    const place = (e) => {
      const r = canvas.getBoundingClientRect();
      return [((e.clientX - r.left) / r.width) * SIDE, ((e.clientY - r.top) / r.height) * SIDE];
    };
    function stroke(e) {
      const to = place(e), from = last || to;
      for (let k = 0; k <= 8; k++) dab(from.map((t, i) => t + (k / 8) * (to[i] - t)));
      last = to;
      show();
    }
    canvas.addEventListener("pointerdown", (e) => {
      canvas.setPointerCapture(e.pointerId);
      stroke(e);
    });
    canvas.addEventListener("pointermove", (e) => last && stroke(e));
    canvas.addEventListener("pointerup", () => {
      last = null;
      changed(levels.slice());
    });
    const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    canvas.addEventListener("keydown", (e) => {
      const here = at[1] * SIDE + at[0];
      if (MOVES[e.key]) at = at.map((t, k) => Math.min(SIDE - 1, Math.max(0, t + MOVES[e.key][k])));
      else if (e.key === " ") levels[here] = levels[here] === 1 ? 0 : 1;
      else if (e.key === "Delete" || e.key === "Backspace") levels[here] = 0;
      else return;
      e.preventDefault();
      show(true);
      if (!MOVES[e.key]) changed(levels.slice());
    });
    canvas.addEventListener("focus", () => show(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => show());
    show();
    return {
      canvas,
      set(x) {
        levels = x ? x.slice() : new Float32Array(SIDE * SIDE);
        show();
      },
    };
  }

  // ---- a file
  // mean of the pixels under each place of a w x h grid, of a picture (ch,H,W)
  function small({ x, H, W }, ch, h, w) {
    const y = new Float32Array(ch * h * w);
    for (let c = 0; c < ch; c++)
      for (let i = 0; i < h; i++)
        for (let j = 0; j < w; j++) {
          const top = Math.floor((i * H) / h), low = Math.max(top + 1, Math.floor(((i + 1) * H) / h));
          const left = Math.floor((j * W) / w), right = Math.max(left + 1, Math.floor(((j + 1) * W) / w));
          let s = 0;
          for (let a = top; a < low; a++) for (let b = left; b < right; b++) s += x[(c * H + a) * W + b];
          y[(c * h + i) * w + j] = s / ((low - top) * (right - left));
        }
    return y;
  }

  // the middle square of a picture, at most 512 pixels wide; in grey, all of it
  async function read(file, whole) {
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      throw new Error(`${file.name} is no image that can be read; give a PNG or JPEG file.`);
    }
    const cut = Math.min(picture.width, picture.height);
    const [w, h] = whole ? [picture.width, picture.height] : [cut, cut];
    const s = Math.min(1, 512 / Math.max(w, h));
    const W = Math.max(1, Math.round(w * s)), H = Math.max(1, Math.round(h * s));
    const canvas = element("canvas", { width: W, height: H }), pen = canvas.getContext("2d");
    pen.fillStyle = "white"; // behind what is transparent
    pen.fillRect(0, 0, W, H);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(picture, (picture.width - w) / 2, (picture.height - h) / 2, w, h, 0, 0, W, H);
    const { data } = pen.getImageData(0, 0, W, H), x = new Float32Array(3 * W * H);
    for (let t = 0; t < W * H; t++)
      for (let c = 0; c < 3; c++) x[c * W * H + t] = data[4 * t + c] / 255;
    return { x, H, W };
  }

  // ink on paper as the digits are: white on black, cropped to the ink, in a square
  function inked({ x, H, W }, name) {
    const n = H * W;
    let g = Float32Array.from({ length: n }, (_, t) => 0.299 * x[t] + 0.587 * x[n + t] + 0.114 * x[2 * n + t]);
    let low = 1, high = 0, rim = 0, count = 0;
    g.forEach((t, k) => {
      [low, high] = [Math.min(low, t), Math.max(high, t)];
      const i = Math.floor(k / W), j = k % W;
      if (Math.min(i, H - 1 - i) < H / 16 || Math.min(j, W - 1 - j) < W / 16) [rim, count] = [rim + t, count + 1];
    });
    if (high - low < 0.05) throw new Error(`${name} is one even tone; give an image with something on it.`);
    const paper = rim / count > 0.5;
    g = g.map((t) => (paper ? high - t : t - low) / (high - low));
    let [top, bottom, left, right] = [H, 0, W, 0];
    g.forEach((t, k) => {
      if (t <= 100 / 255) return;
      const i = Math.floor(k / W), j = k % W;
      [top, bottom, left, right] = [Math.min(top, i), Math.max(bottom, i), Math.min(left, j), Math.max(right, j)];
    });
    const h = bottom - top + 1, w = right - left + 1, side = Math.max(h, w, SIDE);
    const y = new Float32Array(side * side);
    const down = Math.floor((side - h) / 2), across = Math.floor((side - w) / 2);
    for (let i = 0; i < h; i++)
      for (let j = 0; j < w; j++) y[(i + down) * side + j + across] = g[(i + top) * W + j + left];
    return small({ x: y, H: side, W: side }, 1, SIDE, SIDE);
  }

  // a file as an image of this shape, pixels in [0,1] in steps of a byte
  async function image(file, [ch, h, w]) {
    const seen = await read(file, ch === 1);
    const x = ch === 1 ? inked(seen, file.name) : small(seen, ch, h, w);
    return x.map((t) => Math.round(255 * t) / 255);
  }

  // ---- as text, for the address
  const text = (x) =>
    btoa(String.fromCharCode(...x.map((t) => Math.round(255 * t)))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  function fromText(t, n) {
    const bytes = spatPlay.bytesOf(t.replace(/-/g, "+").replace(/_/g, "/"));
    return bytes.length === n ? Float32Array.from(bytes, (v) => v / 255) : null;
  }

  return { pad, image, text, fromText };
})();
