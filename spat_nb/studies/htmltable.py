"""A table that can be sorted"""

from __future__ import annotations

import hashlib
import html

_STYLE = """<style>.board{overflow-x:auto;max-width:100%;color:var(--pst-color-text-base,var(--jp-content-font-color1,var(--bs-body-color,CanvasText)))}.board,.board :is(th,td):first-child{background:var(--pst-color-background,var(--jp-layout-color0,var(--bs-body-bg,Canvas)))!important}.board table{border-collapse:collapse;font-variant-numeric:tabular-nums}.board :is(th,td){padding:.2em .6em;text-align:right;white-space:nowrap;border-bottom:1px solid rgba(128,128,128,.3)}
.board :is(th,td).t{text-align:left}.board td.w{white-space:normal;min-width:14em}.board :is(th,td):first-child{position:sticky;left:0;z-index:1;max-width:12em;white-space:normal;overflow-wrap:anywhere}.board th[aria-sort=ascending]::after{content:" ▲"}.board th[aria-sort=descending]::after{content:" ▼"}</style>"""  # noqa: E501


_SCRIPT = """<script>(function(t){if(!t)return;var b=t.tBodies[0];[].forEach.call(t.tHead.rows[0].cells,function(h,i){h.tabIndex=0;h.style.cursor='pointer';h.title='sort';
function go(){var d=h.getAttribute('aria-sort')!='descending',v=function(r){var x=r.cells[i].dataset.v;return x===''?(d?-1/0:1/0):isNaN(x)?x:+x};[].forEach.call(t.tHead.rows[0].cells,function(o){o.removeAttribute('aria-sort')});h.setAttribute('aria-sort',d?'descending':'ascending');
[].slice.call(b.rows).sort(function(p,q){p=v(p);q=v(q);return(p<q?1:p>q?-1:0)*(d?1:-1)}).forEach(function(r){b.appendChild(r)})}h.onclick=go;h.onkeydown=function(e){if(e.key=='Enter'||e.key==' '){go();e.preventDefault()}}})})(document.querySelector('#ID table'))</script>"""  # noqa: E501


class Table:
    """A table that notebooks and the site show as HTML with heads to sort by, and terminals as text

    Parameters
    ----------
    shown
        pandas.DataFrame of texts
    keys
        pandas.DataFrame of the same shape, what is sorted by; default: `shown`
    """

    def __init__(
        self,
        shown,  # pandas.DataFrame of texts
        keys=None,  # pandas.DataFrame of the same shape, what is sorted by; default: `shown`
    ):
        self.shown, self.keys = shown, shown if keys is None else keys

    def __repr__(self):
        return self.shown.to_string(index=False)

    def _repr_html_(self):
        text = [
            isinstance(v, str) for v in (self.keys.iloc[0] if len(self.keys) else self.keys.columns)
        ]

        def kind(c, v=""):
            return f' class="t{" w" * (len(v) > 40)}"' if text[c] else ""

        def key(v):
            return "" if v is None or v != v else html.escape(str(v))

        head = "".join(
            f'<th scope="col"{kind(i)}>{html.escape(str(c))}</th>' for i, c in enumerate(self.shown)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td data-v="{key(k)}"{kind(i, str(v))}>{html.escape(str(v))}</td>'
                for i, (v, k) in enumerate(zip(a, b))
            )
            + "</tr>"
            for a, b in zip(self.shown.values, self.keys.values)
        )
        mark = "board-" + hashlib.sha1((head + body).encode()).hexdigest()[:8]
        return (
            f'{_STYLE}<div class="board" id="{mark}"><table'
            f' class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{_SCRIPT.replace("ID", mark)}'  # noqa: E501
        )
