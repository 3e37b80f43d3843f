/* Convolutions of the page's networks: forward, and back to their input. Nearly all of the work is
   3 x 3; it goes through kernel.js where there is one. See engine.js.

   One function, so that the page can hand its text to a worker. */
function spatConvolutions(kernel) {
  "use strict";

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

  return { conv };
}
