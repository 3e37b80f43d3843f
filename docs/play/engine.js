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
function spatEngine(kernel) {
  "use strict";

  // ---- convolutions
  // x (ni,h,w) with a rim of p zeros
  function padded(x, ni, h, w, p, to) {
    const W = w + 2 * p, plane = (h + 2 * p) * W;
    to.fill(0, 0, ni * plane);
    for (let c = 0; c < ni; c++)
      for (let i = 0; i < h; i++) {
        const from = (c * h + i) * w;
        to.set(x.subarray(from, from + w), c * plane + (i + p) * W + p);
      }
    return to;
  }

  // 3 x 3, step 1, all channels: nearly all of the work
  function conv3(x, ni, h, w, weight, bias, no, out) {
    const xp = padded(x, ni, h, w, 1, new Float32Array(ni * (h + 2) * (w + 2)));
    const W = w + 2, plane = (h + 2) * W, sum = new Float64Array(h * w);
    for (let o = 0; o < no; o++) {
      sum.fill(bias ? bias[o] : 0);
      for (let c = 0; c < ni; c++) {
        const k = (o * ni + c) * 9;
        const a = weight[k], b = weight[k + 1], d = weight[k + 2], e = weight[k + 3],
          f = weight[k + 4], g = weight[k + 5], l = weight[k + 6], m = weight[k + 7],
          n = weight[k + 8];
        for (let i = 0; i < h; i++) {
          let q = c * plane + i * W, r = q + W, s = r + W, t = i * w;
          for (let j = 0; j < w; j++, q++, r++, s++, t++)
            sum[t] += a * xp[q] + b * xp[q + 1] + d * xp[q + 2] + e * xp[r] + f * xp[r + 1]
              + g * xp[r + 2] + l * xp[s] + m * xp[s + 1] + n * xp[s + 2];
        }
      }
      out.set(sum, o * h * w);
    }
    return out;
  }

  // any odd kernel, any step, any groups: `forward` gathers, `back` scatters
  function general(spec, weight, bias, ni) {
    const { out: no, k, stride, groups } = spec, p = (k - 1) / 2;
    const inGroup = ni / groups, outGroup = no / groups;
    let h, w, H, W;
    // visit(place in the padded input, place in the output, weight), all the products there are
    function pairs(visit) {
      const WP = w + 2 * p, plane = (h + 2 * p) * WP;
      for (let o = 0; o < no; o++)
        for (let c = 0; c < inGroup; c++) {
          const from = (Math.floor(o / outGroup) * inGroup + c) * plane;
          for (let u = 0; u < k; u++)
            for (let v = 0; v < k; v++)
              visit(from + u * WP + v, o * H * W, weight[((o * inGroup + c) * k + u) * k + v], WP);
        }
    }
    return {
      forward(x, shape) {
        [, h, w] = shape;
        H = Math.floor((h + 2 * p - k) / stride) + 1;
        W = Math.floor((w + 2 * p - k) / stride) + 1;
        const xp = padded(x, ni, h, w, p, new Float32Array(ni * (h + 2 * p) * (w + 2 * p)));
        const sum = new Float64Array(no * H * W);
        for (let o = 0; o < no; o++) sum.fill(bias[o], o * H * W, (o + 1) * H * W);
        pairs((a, b, value, WP) => {
          for (let i = 0; i < H; i++) {
            let q = a + i * stride * WP, t = b + i * W;
            for (let j = 0; j < W; j++, q += stride, t++) sum[t] += value * xp[q];
          }
        });
        return [Float32Array.from(sum), [no, H, W]];
      },
      back(g) {
        const WP = w + 2 * p, plane = (h + 2 * p) * WP, gp = new Float64Array(ni * plane);
        pairs((a, b, value) => {
          for (let i = 0; i < H; i++) {
            let q = a + i * stride * WP, t = b + i * W;
            for (let j = 0; j < W; j++, q += stride, t++) gp[q] += value * g[t];
          }
        });
        const gx = new Float32Array(ni * h * w);
        for (let c = 0; c < ni; c++)
          for (let i = 0; i < h; i++) {
            const from = c * plane + (i + p) * WP + p;
            gx.set(gp.subarray(from, from + w), (c * h + i) * w);
          }
        return gx;
      },
    };
  }

  // the gradient of a convolution of step 1 is one too, with the kernel turned round
  function turned(weight, no, ni) {
    const to = new Float32Array(weight.length);
    for (let o = 0; o < no; o++)
      for (let c = 0; c < ni; c++)
        for (let t = 0; t < 9; t++) to[(c * no + o) * 9 + 8 - t] = weight[(o * ni + c) * 9 + t];
    return to;
  }

  // every second row and column, as step 2 leaves them; and back, with zeros between
  function thinned(x, n, h, w) {
    const H = (h + 1) >> 1, W = (w + 1) >> 1, y = new Float32Array(n * H * W);
    for (let t = 0, c = 0; c < n; c++)
      for (let i = 0; i < h; i += 2)
        for (let j = 0; j < w; j += 2) y[t++] = x[(c * h + i) * w + j];
    return y;
  }
  function spread(g, n, h, w) {
    const x = new Float32Array(n * h * w);
    for (let t = 0, c = 0; c < n; c++)
      for (let i = 0; i < h; i += 2)
        for (let j = 0; j < w; j += 2) x[(c * h + i) * w + j] = g[t++];
    return x;
  }

  // weights and biases with the batch norm behind them
  function folded({ out: no, w, norm }, numbers, each) {
    const weight = numbers(w, no * each).slice(), bias = new Float32Array(no);
    if (!norm) return { weight, bias };
    const a = numbers(norm.a, no);
    weight.forEach((t, i) => (weight[i] = t * a[Math.floor(i / each)]));
    return { weight, bias: numbers(norm.b, no) };
  }

  function conv(spec, numbers, ni) {
    const { out: no, k, groups, stride } = spec, each = (ni / groups) * k * k;
    const { weight, bias } = folded(spec, numbers, each);
    if (k !== 3 || stride > 2 || groups !== 1) return general(spec, weight, bias, ni);
    const round = turned(weight, no, ni);
    const there = kernel && kernel.prepare(weight, bias, ni, no);
    const again = kernel && kernel.prepare(round, null, no, ni);
    let h, w;
    const run = (ready, x, a, wt, b, n) =>
      (ready && ready(x, h, w)) || conv3(x, a, h, w, wt, b, n, new Float32Array(n * h * w));
    return {
      forward(x, shape) {
        [, h, w] = shape;
        const y = run(there, x, ni, weight, bias, no);
        if (stride === 1) return [y, [no, h, w]];
        return [thinned(y, no, h, w), [no, (h + 1) >> 1, (w + 1) >> 1]];
      },
      back: (g) => run(again, stride === 1 ? g : spread(g, no, h, w), no, round, null, ni),
    };
  }

  // ---- the other layers
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
