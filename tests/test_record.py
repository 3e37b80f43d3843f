"""A record: what is counted from answers, and what becomes of its file"""

import tempfile
from pathlib import Path

import torch
from asserting import assert_close, assert_eq, assert_fails

from spat_nb.measure.intervals import wilson
from spat_nb.measure.record import Record

y = torch.tensor([0, 0, 0, 1, 1, 1])
clean = torch.tensor([0, 0, 0, 1, 1, 0])  # the last one is wrong from the start
a = torch.tensor([1, 0, 0, 1, 0, 0])
b = torch.tensor([0, 1, 0, 1, 1, 0])
r = Record(y, dict(clean=clean, a=a, b=b), ("cat", "dog"))


def test_numbers_by_hand():
    assert_eq([r.accuracy(k) for k in ("clean", "a", "b", "worst")], [5 / 6, 3 / 6, 4 / 6, 2 / 6])
    assert_eq(r.interval("a"), wilson(3, 6))
    # cat and dog tie under b: the first
    assert_eq(r.weakest("a"), ("dog", 1 / 3))
    assert_eq(r.weakest("b"), ("cat", 2 / 3))
    assert_eq(r.confusion("a").tolist(), [[2, 1], [2, 1]])


def test_whatever_is_counted_adds_up():
    for k in r.names:
        t = r.per_class(k)
        assert_eq((t.n.sum(), t.correct.sum()), (6, int(r.correct(k).sum())))
        assert ((t.lo <= t.accuracy) & (t.accuracy <= t.hi)).all() and r.weakest(k)[
            1
        ] <= r.accuracy(k)
        assert_close(r.class_table()[k], t.accuracy)
        assert_close(r.table().accuracy[k], r.accuracy(k))
        if k != "worst":
            assert_eq(r.confusion(k).sum(1).tolist(), t.n.tolist())
            assert_eq(r.confusion(k).diag().tolist(), t.correct.tolist())
        assert r.accuracy("worst") <= r.accuracy(k)


def test_worst_and_members():
    # one attack needs no worst case
    assert_eq(Record(y, dict(clean=clean, a=a), ("cat", "dog")).names, ["clean", "a"])
    parts = Record(
        y,
        {
            "clean": clean,
            "aa/a": a,
            "aa/b": torch.tensor([1, 1, 0, 1, 0, 0]),
            "aa": torch.tensor([1, 1, 0, 1, 0, 0]),
        },
        ("cat", "dog"),
        dict(notes=["a doubt: x < y"]),
    )
    # one attack, two parts
    assert_eq(
        (parts.attacks, parts.names, parts.accuracy("worst")),
        (["aa"], ["clean", "aa/a", "aa/b", "aa"], 2 / 6),
    )
    assert (
        "<table" in r._repr_html_()
        and "0.333" in repr(r)
        and "x < y" in repr(parts)
        and "x &lt; y" in parts._repr_html_()
        and not r.notes
    )
    assert_fails(
        lambda: r.accuracy("c"), contains="'c' gives no answers in this record; it has clean, a, b"
    )
    # which wrong answer would that be?
    assert_fails(lambda: r.confusion("worst"), contains="worst")


def test_a_class_without_images_is_unknown():
    part = Record(y[:3], dict(clean=a[:3]), ("cat", "dog", "cow")).per_class()
    assert_eq(part.n.tolist(), [3, 0, 0])
    assert part.accuracy.isna().tolist() == [False, True, True] and (part.hi[1:] == 1).all()
    assert_eq(Record(y[:3], dict(clean=a[:3]), ("cat", "dog", "cow")).weakest(), ("cat", 2 / 3))


def test_a_file_comes_back_or_is_refused():
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "runs" / "record.json"
        r.save(path)
        back = Record.load(path)
        assert torch.equal(back.y, r.y) and all(
            torch.equal(back.preds[k], p) for k, p in r.preds.items()
        )
        assert_eq((list(back.preds), back.classes, back.info), (list(r.preds), r.classes, r.info))
        whole = path.read_text()
        for text in (
            whole[:-20],
            '{"y": [1]}',
            "[1, 2]",
            whole.replace('"a": [1', '"a": [7'),
            whole.replace('"a": [1, ', '"a": ['),
            "\0",
        ):
            path.write_text(text)
            assert_fails(lambda: Record.load(path), contains="holds no whole record")
        assert_fails(lambda: Record.load(Path(d) / "none.json"), contains="no record")
    assert_fails(lambda: Record(y, dict(a=a), ("cat", "dog")), contains="the clean answers")
    assert_fails(lambda: Record(y, dict(clean=clean), ("cat",)), contains="y holds label 1")
    assert_fails(lambda: Record(y[:0], dict(clean=y[:0]), ("cat",)), contains="0 images")
