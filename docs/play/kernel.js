/* The convolution of kernel.wat, four products at a time, for convolutions.js. Where a browser has no SIMD
   in WebAssembly `spatKernel()` is null, and convolutions.js sums by itself: the same numbers, but slower.

   One function, so that the page can hand its text to a worker. */
function spatKernel() {
  "use strict";
  const CODE =
    "AGFzbQEAAAABDAFgCH9/f39/f39/AAMCAQAFAwEAAQcSAgZtZW1vcnkCAAVjb252MwAACuUCAeICAgt/AXsgB0EC"
    + "akECdCEIIAggBkECamwhCSAFIQoDQCAAIRIgBiEMA0BBACENA0AgAv0JAgAhEyASIA1qIQ4gASERIAQhCwNAIA4g"
    + "CGohDyAPIAhqIRAgEyAR/QkCACAO/QAEAP3mASAR/QkCBCAO/QAEBP3mAf3kASAR/QkCCCAO/QAECP3mAf3kASAR"
    + "/QkCDCAP/QAEAP3mASAR/QkCECAP/QAEBP3mAf3kASAR/QkCFCAP/QAECP3mASAR/QkCGCAQ/QAEAP3mAf3kASAR"
    + "/QkCHCAQ/QAEBP3mASAR/QkCICAQ/QAECP3mAf3kAf3kAf3kAf3kAf3kASETIA4gCWohDiARQSRqIREgC0EBayIL"
    + "DQALIAMgE/0LBAAgA0EQaiEDIA1BEGohDSANIAdBAnRJDQALIBIgCGohEiAMQQFrIgwNAAsgASAEQSRsaiEBIAJB"
    + "BGohAiAKQQFrIgoNAAsL";
  const bytes = Uint8Array.from(atob(CODE), (c) => c.charCodeAt(0));
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(bytes)) return null;
  const { memory, conv3 } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
  const HALF = 1 << 18; // bytes for the input with its rim, and as many for the output
  let used = 2 * HALF;

  function keep(numbers) {
    const at = used;
    used += 4 * numbers.length;
    const lacking = used - memory.buffer.byteLength;
    if (lacking > 0) memory.grow(Math.ceil(lacking / 65536));
    new Float32Array(memory.buffer, at, numbers.length).set(numbers);
    return at;
  }

  // weight (no,ni,9), bias (no) or null -> (x (ni,h,w), h, w) -> (no,h,w); null where it does not fit
  function prepare(weight, bias, ni, no) {
    const w0 = keep(weight), b0 = keep(bias || new Float32Array(no));
    return (x, h, w) => {
      const W = w + 2, plane = (h + 2) * W;
      if (w % 4 || 4 * ni * plane > HALF || 4 * no * h * w > HALF) return null;
      const xp = new Float32Array(memory.buffer, 0, ni * plane).fill(0);
      for (let c = 0; c < ni; c++)
        for (let i = 0; i < h; i++) {
          const from = (c * h + i) * w;
          xp.set(x.subarray(from, from + w), c * plane + (i + 1) * W + 1);
        }
      conv3(0, w0, b0, HALF, ni, no, h, w);
      return new Float32Array(memory.buffer, HALF, no * h * w).slice();
    };
  }

  return { prepare };
}
