/* Networks in the page: forward, and back to the pixels.

   A network is a row of layers (tools/webplay.py writes them). Each has `forward(x)` and
   `back(g)`, the gradient with respect to its input at the point of the last `forward`. Maps are
   Float32Arrays, one image at a time, channel by channel.

   Why no library: measured in November 2026 on two cores, for one gradient of the CIFAR-10
   networks (PreActResNet18, width 8). ONNX Runtime Web has no gradients and is 14 MB. TensorFlow.js
   has had no release since October 2024, is 0.9 MB and takes 23 ms; this file takes a third of that
   and is read by whoever wants to know what a gradient is. tests/test_webplay.py holds it against
   torch: logits, gradients, and the answers after an attack.

   The file is one function, so that the page can hand its text to a worker. */
function spatEngine(convolutions) {
  "use strict";

  const { conv } = convolutions;

  // ---- layers
  function affine(spec, numbers, channels) {
    const a = numbers(spec.a, channels);
    const b = numbers(spec.b, channels);
    let n;
    return {
      forward(x, shape) {
        n = x.length / channels;
        const y = new Float32Array(x.length);
        for (let i = 0, c = 0; c < channels; c++)
          for (let t = 0; t < n; t++, i++) y[i] = a[c] * x[i] + b[c];
        return [y, shape];
      },
      back(g) {
        const gx = new Float32Array(g.length);
        for (let i = 0, c = 0; c < channels; c++)
          for (let t = 0; t < n; t++, i++) gx[i] = a[c] * g[i];
        return gx;
      },
    };
  }

  function relu() {
    let y;
    return {
      forward(x, shape) {
        y = new Float32Array(x.length);
        for (let i = 0; i < x.length; i++) y[i] = x[i] > 0 ? x[i] : 0;
        return [y, shape];
      },
      back(g) {
        const gx = new Float32Array(g.length);
        for (let i = 0; i < g.length; i++) gx[i] = y[i] > 0 ? g[i] : 0;
        return gx;
      },
    };
  }

  // x sigmoid(T(x)), the gate of Sparta
  function gate(spec, numbers, channels) {
    const around = row(spec.around, numbers, channels);
    let x, v;
    return {
      forward(input, shape) {
        x = input;
        v = around.forward(x, shape)[0].map((t) => 1 / (1 + Math.exp(-t)));
        return [x.map((t, i) => t * v[i]), shape];
      },
      back(g) {
        const through = around.back(g.map((t, i) => t * x[i] * v[i] * (1 - v[i])));
        return g.map((t, i) => t * v[i] + through[i]);
      },
    };
  }

  // pre-activation block: main(before(x)) + (short(before(x)) or x)
  function block(spec, numbers, channels) {
    const before = row(spec.before, numbers, channels), main = row(spec.main, numbers, channels);
    const short = spec.short && row(spec.short, numbers, channels);
    const add = (a, b) => {
      for (let i = 0; i < a.length; i++) a[i] += b[i];
      return a;
    };
    return {
      channels: main.channels,
      forward(x, shape) {
        const [h] = before.forward(x, shape), [y, after] = main.forward(h, shape);
        return [add(y, short ? short.forward(h, shape)[0] : x), after];
      },
      back(g) {
        const gh = main.back(g);
        return short ? before.back(add(gh, short.back(g))) : add(before.back(gh), g);
      },
    };
  }

  function mean() {
    let shape;
    return {
      forward(x, from) {
        shape = from;
        const [c, h, w] = from, y = new Float32Array(c);
        for (let i = 0; i < c; i++) {
          let s = 0;
          for (let t = 0; t < h * w; t++) s += x[i * h * w + t];
          y[i] = s / (h * w);
        }
        return [y, [c]];
      },
      back(g) {
        const [c, h, w] = shape, gx = new Float32Array(c * h * w);
        for (let i = 0; i < c; i++) gx.fill(g[i] / (h * w), i * h * w, (i + 1) * h * w);
        return gx;
      },
    };
  }

  function linear(spec, numbers, d) {
    const n = spec.out, w = numbers(spec.w, n * d);
    const b = numbers(spec.b, n);
    return {
      channels: n,
      forward(x) {
        const y = new Float32Array(n);
        for (let o = 0; o < n; o++) {
          let s = b[o];
          for (let i = 0; i < d; i++) s += w[o * d + i] * x[i];
          y[o] = s;
        }
        return [y, [n]];
      },
      back(g) {
        const gx = new Float64Array(d);
        for (let o = 0; o < n; o++) for (let i = 0; i < d; i++) gx[i] += w[o * d + i] * g[o];
        return Float32Array.from(gx);
      },
    };
  }

  // x / |x|, before a hypersphere
  function unit() {
    let y, size;
    return {
      forward(x, shape) {
        size = Math.max(Math.sqrt(x.reduce((s, t) => s + t * t, 0)), 1e-12);
        y = x.map((t) => t / size);
        return [y, shape];
      },
      back(g) {
        const along = g.reduce((s, t, i) => s + t * y[i], 0);
        return g.map((t, i) => (t - along * y[i]) / size);
      },
    };
  }

  // -|x - P_o|^2, the nearest prototype wins
  function nearest(spec, numbers, d) {
    const n = spec.out, P = numbers(spec.w, n * d);
    let x;
    return {
      channels: n,
      forward(input) {
        x = input;
        const y = new Float32Array(n);
        for (let o = 0; o < n; o++) {
          let s = 0;
          for (let i = 0; i < d; i++) s += (x[i] - P[o * d + i]) ** 2;
          y[o] = -s;
        }
        return [y, [n]];
      },
      back(g) {
        const gx = new Float64Array(d);
        for (let o = 0; o < n; o++)
          for (let i = 0; i < d; i++) gx[i] -= 2 * (x[i] - P[o * d + i]) * g[o];
        return Float32Array.from(gx);
      },
    };
  }

  const KINDS = { conv, affine, relu, gate, block, mean, linear, unit, nearest };

  function row(specs, numbers, channels) {
    const layers = specs.map((spec) => {
      const layer = KINDS[spec.op](spec, numbers, channels);
      channels = layer.channels || (spec.op === "conv" ? spec.out : channels);
      return layer;
    });
    return {
      channels,
      forward: (x, shape) => layers.reduce(([y, s], layer) => layer.forward(y, s), [x, shape]),
      back: (g) => layers.reduceRight((gy, layer) => layer.back(gy), g),
    };
  }

  const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  function halves(text) {
    return Float32Array.from(new Uint16Array(bytesOf(text).buffer), (h) => {
      const exponent = (h >> 10) & 31, digits = h & 1023;
      const size = exponent ? 2 ** (exponent - 15) * (1 + digits / 1024) : 2 ** -24 * digits;
      return h >> 15 ? -size : size;
    });
  }

  // about: what tools/webplay.py wrote; texts: its numbers in base64, float16 and float32
  function network(about, [half, full]) {
    const rows = [halves(half), new Float32Array(bytesOf(full).buffer)];
    const numbers = ([row, begin], n) => rows[row].subarray(begin, begin + n);
    const layers = row(about.layers, numbers, about.shape[0]);
    return {
      logits: (x) => layers.forward(x, about.shape)[0],
      // of (dz, logits) at the point of the last `logits`
      back: (dz) => layers.back(dz),
    };
  }

  return { network };
}
