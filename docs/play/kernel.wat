;; A convolution 3 x 3 of step 1, four places at a time. docs/play/kernel.js holds this module in
;; base64; it was assembled by wabt 1.0.39 (`wat2wasm --enable-simd`), and tests/test_webplay.py holds
;; it against the same sum in JavaScript.
;;   xp     (ni,h+2,w+2) the input with a rim of zeros     w is a multiple of 4
;;   weight (no,ni,9)    bias (no)    out (no,h,w)         all are addresses, in bytes
(module
  (memory (export "memory") 1)
  (func (export "conv3")
    (param $xp i32) (param $weight i32) (param $bias i32) (param $out i32)
    (param $ni i32) (param $no i32) (param $h i32) (param $w i32)
    (local $row i32) (local $plane i32) (local $o i32) (local $c i32) (local $i i32) (local $j i32)
    (local $q i32) (local $r i32) (local $s i32) (local $k i32) (local $first i32)
    (local $sum v128)
    (local.set $row (i32.shl (i32.add (local.get $w) (i32.const 2)) (i32.const 2)))
    (local.set $plane (i32.mul (local.get $row) (i32.add (local.get $h) (i32.const 2))))
    (local.set $o (local.get $no))
    (loop $outputs
      (local.set $first (local.get $xp))
      (local.set $i (local.get $h))
      (loop $rows
        (local.set $j (i32.const 0))
        (loop $places
          (local.set $sum (v128.load32_splat (local.get $bias)))
          (local.set $q (i32.add (local.get $first) (local.get $j)))
          (local.set $k (local.get $weight))
          (local.set $c (local.get $ni))
          (loop $inputs
            (local.set $r (i32.add (local.get $q) (local.get $row)))
            (local.set $s (i32.add (local.get $r) (local.get $row)))
            (local.set $sum (f32x4.add (local.get $sum) (f32x4.add (f32x4.add
              (f32x4.add
                (f32x4.mul (v128.load32_splat (local.get $k)) (v128.load (local.get $q)))
                (f32x4.mul (v128.load32_splat offset=4 (local.get $k)) (v128.load offset=4 (local.get $q))))
              (f32x4.mul (v128.load32_splat offset=8 (local.get $k)) (v128.load offset=8 (local.get $q))))
              (f32x4.add (f32x4.add
                (f32x4.mul (v128.load32_splat offset=12 (local.get $k)) (v128.load (local.get $r)))
                (f32x4.mul (v128.load32_splat offset=16 (local.get $k)) (v128.load offset=4 (local.get $r))))
              (f32x4.add (f32x4.add
                (f32x4.mul (v128.load32_splat offset=20 (local.get $k)) (v128.load offset=8 (local.get $r)))
                (f32x4.mul (v128.load32_splat offset=24 (local.get $k)) (v128.load (local.get $s))))
              (f32x4.add
                (f32x4.mul (v128.load32_splat offset=28 (local.get $k)) (v128.load offset=4 (local.get $s)))
                (f32x4.mul (v128.load32_splat offset=32 (local.get $k)) (v128.load offset=8 (local.get $s)))))))))
            (local.set $q (i32.add (local.get $q) (local.get $plane)))
            (local.set $k (i32.add (local.get $k) (i32.const 36)))
            (br_if $inputs (local.tee $c (i32.sub (local.get $c) (i32.const 1)))))
          (v128.store (local.get $out) (local.get $sum))
          (local.set $out (i32.add (local.get $out) (i32.const 16)))
          (local.set $j (i32.add (local.get $j) (i32.const 16)))
          (br_if $places (i32.lt_u (local.get $j) (i32.shl (local.get $w) (i32.const 2)))))
        (local.set $first (i32.add (local.get $first) (local.get $row)))
        (br_if $rows (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (local.set $weight (i32.add (local.get $weight) (i32.mul (local.get $ni) (i32.const 36))))
      (local.set $bias (i32.add (local.get $bias) (i32.const 4)))
      (br_if $outputs (local.tee $o (i32.sub (local.get $o) (i32.const 1)))))))
