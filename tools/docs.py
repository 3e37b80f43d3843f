"""Build the docs site into _docs/:  python tools/docs.py [--out DIR] [--sphinx]

Where Quarto is installed `nbdev-docs` does it. Elsewhere (or with --sphinx) nbdev processes the notebooks here, and
Sphinx with MyST-NB renders them: stored outputs, nothing is executed, nothing is fetched, and the pages need no network.
Order and titles of both come from _quarto.yml."""
import argparse, importlib, importlib.util, inspect, itertools, os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path
import yaml

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT/'nbs'

# ---- what _quarto.yml says
def website(): return yaml.safe_load((ROOT/'_quarto.yml').read_text())['website']

def floors(contents):
    "[(caption, [notebook, ...]), ...] in reading order; the caption of notebooks outside a section is ''"
    for c in contents:
        if isinstance(c, dict) and 'section' in c: yield c['section'],[Path(f).stem for f in c['contents']]
        else: yield '',[Path(c if isinstance(c, str) else c['href']).stem]

def toctrees(contents):
    "The sidebar, as hidden tables of contents at the end of the first page"
    for caption, names in floors(contents):
        names = [n for n in names if n != 'index']
        if names: yield '\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}' if caption else '', '', *names, '```'])

# ---- API cards from docments
def plain(o):
    "How a type or a default reads in a signature"
    if o in (inspect.Parameter.empty, type(None)): return ''
    return o if isinstance(o, str) else getattr(o, '__name__', None) or repr(o)

def rows(obj):
    "(name, type, default, comment) of each parameter and of the result; a dataclass inherits comments from its bases"
    from fastcore.docments import docments
    stars = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}
    older = [docments(b, full=True) for b in getattr(obj, '__mro__', ())[1:-1] if hasattr(b, '__dataclass_fields__')]
    for name, d in docments(obj, full=True, args_kwargs=True).items():
        text = d.get('docment') or next((o[name].docment for o in older if name in o and o[name].docment), '')
        kind = stars.get(d.get('kind'), '')
        anno = getattr(d['anno'], '__forward_arg__', d['anno'])
        if name != 'self': yield kind + name, str(plain(anno)), str(plain(d.get('default', ''))), ' '.join(text.split())

def card(obj, name, module):
    "A function or class as a MyST directive of Sphinx's Python domain: signature, docstring, table"
    code = lambda s: '<code>' + s.replace('&', '&amp;').replace('<', '&lt;').replace('|', '&#124;') + '</code>' if s else ''
    table = list(rows(obj))
    if inspect.isclass(obj): table = [r for r in table if r[0] != 'return']
    args = [n + (f'={d}' if d else '') for n,_,d,_ in table if n != 'return']
    lines = [f':::::{{py:{"class" if inspect.isclass(obj) else "function"}}} {name}({", ".join(args)})', f':module: spat_nb.{module}', '',
             (inspect.getdoc(obj) or '') if not (inspect.isclass(obj) and not obj.__dict__.get('__doc__')) else '', '']
    if any(t or text for _,t,_,text in table):
        lines += ['::::{table}', ':class: api', '', '| name | type | default | meaning |', '|---|---|---|---|']
        for n,t,d,text in table:
            lines.append(f'| {"*returns*" if n == "return" else code(n)} | {code(t)} | {code(d)} | ' + text.replace('|', r'\|') + ' |')
        lines.append('::::')
    return '\n'.join(lines + [':::::'])

# ---- nbdev's processing, with cards in place of executed show_doc cells
def process(path):
    "One notebook as nbdev prepares it for a site; exported source stays in sight, because the code is what is taught"
    from fastcore.nbio import read_nb
    from nbdev import processors as p
    class Cards(p.Processor):
        def begin(self):
            room = next((c.directives_['default_exp'] for c in self.nb.cells if 'default_exp' in c.directives_), None)
            runs = [list(r) for _,r in itertools.groupby(self.nb.cells, lambda c: getattr(c, 'has_sd', False))]
            self.nb.cells = [c for r in runs for c in (reversed(r) if getattr(r[0], 'has_sd', False) else r)]  # nbdev's stand last first
            self.room,self.env = room,vars(importlib.import_module(f'spat_nb.{room}')) if room else {}
        def cell(self, cell):
            m = cell.cell_type == 'code' and re.search(r'^show_doc\(([\w.]+)', cell.source, re.M)
            if m: cell.update(cell_type='markdown', source=card(eval(m[1], dict(self.env)), m[1], self.room))
    class Site(p.FilterDefaults):
        def base_procs(self):
            drop = p.insert_warning,p.clean_show_doc,p.add_links,p.add_fold,p.mv_exports
            return [Cards if o is p.exec_show_docs else o for o in super().base_procs() if o not in drop]
    nb = read_nb(path)
    for c in nb.cells:
        if c.cell_type == 'code': c.source = re.sub(r'^#\|\s*export\s*$', '#| exports', c.source, flags=re.M)
    Site()(nb)
    return nb

# ---- from nbdev's cells to valid ones that MyST-NB reads
def clean(nb, names):
    "A valid notebook: front matter to heading and subtitle, `#|` directives to tags, `code` names in prose to links"
    from nbdev.doclinks import NbdevLookup
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
    class Links(NbdevLookup):
        def doc(self, sym): return names.get(sym.split('.')[0])
    res = new_notebook(metadata={'kernelspec': dict(name='python3', display_name='python3', language='python')})
    for i,c in enumerate(nb.cells):
        src = c.source
        if c.cell_type == 'raw' and src.startswith('---'):
            fm = yaml.safe_load(src.strip().strip('-'))
            src = f"# {fm.get('title', '')}\n\n" + (f":::{{container}} subtitle\n{fm['description']}\n:::" if fm.get('description') else '')
        if c.cell_type != 'code': cell = new_markdown_cell(Links().linkify(src))
        else:
            d = dict(re.findall(r'^#\|\s*([\w-]+):[ \t]*(.*?)\s*$', src, re.M))
            say = lambda k: yaml.safe_load(d.get(k) or '""')
            src = re.sub(r'^#\|.*\n?', '', src, flags=re.M).strip('\n')
            outs = [clean_output(o) for o in c.get('outputs', [])]
            if 'fig-cap' in d: outs = [o for o in outs if o.output_type != 'execute_result' or 'image/png' in o.data]   # no `Text(0.5, 0, 'x')`
            cell = new_code_cell(src, outputs=outs)
            fold,myst = say('code-fold') is True,{}
            cell.metadata.tags = [t for t,on in dict(hide_input=fold, remove_input=say('echo') is False, remove_output=say('output') is False,
                                                     remove_cell=say('include') is False).items() if on]
            cell.metadata.tags = [t.replace('_', '-') for t in cell.metadata.tags]
            if fold: myst |= dict(code_prompt_show=say('code-summary') or 'Show the code', code_prompt_hide=say('code-summary') or 'Hide the code')
            if 'fig-cap' in d: myst['figure'] = dict(caption=say('fig-cap'))
            if 'fig-alt' in d: myst['image'] = dict(alt=say('fig-alt'))
            if myst: cell.metadata.mystnb = myst
        cell.id = f'c{i}'
        res.cells.append(cell)
    return res

def clean_output(o):
    "An output without live widgets (they need a running kernel), and with the execution count that nbformat asks for"
    import nbformat
    o = {k:v for k,v in o.items() if k in ('output_type', 'name', 'text', 'data', 'metadata', 'execution_count', 'ename', 'evalue', 'traceback')}
    for k in ('text', 'data'):
        if isinstance(o.get(k), list): o[k] = ''.join(o[k])
    if 'data' in o:
        o['data'] = {k: ''.join(v) if isinstance(v, list) else v for k,v in o['data'].items() if 'jupyter.widget' not in k}
        o.setdefault('metadata', {})
    if o['output_type'] == 'execute_result': o.setdefault('execution_count', None)
    return nbformat.from_dict(o)

# ---- Sphinx
def mathjax(to):
    "Copy MathJax 3.2.2 (every TeX extension, and its fonts) out of its PyPI package, so that pages need no CDN"
    spec = importlib.util.find_spec('sphinx-mathjax-offline')
    if not spec: sys.exit("MathJax is missing: pip install -c constraints.txt -e '.[docs]' brings it (package sphinx-mathjax-offline).")
    src = Path(spec.origin).parent/'static/mathjax'
    shutil.copytree(src/'output/chtml/fonts/woff-v2', to/'mathjax/output/chtml/fonts/woff-v2')
    shutil.copy(src/'tex-chtml-full.js', to/'mathjax')

def conf(site, static):
    theme = dict(repository_url=site['repo-url'], repository_branch=site['repo-branch'], path_to_docs=site['repo-subdir'],
                 use_repository_button=True, use_source_button=True, use_download_button=False, use_fullscreen_button=False,
                 show_navbar_depth=1, show_toc_level=2, home_page_in_toc=False, navigation_with_keys=False)
    return dict(
        project=site['title'], author='The spat_nb authors', extensions=['myst_nb', 'sphinx.ext.mathjax'], root_doc='index',
        html_theme='sphinx_book_theme', html_theme_options=theme, html_title=site['title'], html_copy_source=False, html_show_sourcelink=False,
        html_static_path=[str(static)], html_css_files=['site.css'], html_favicon=str(ROOT/'docs/favicon.svg'), html_context=dict(default_mode='auto'), mathjax_path='mathjax/tex-chtml-full.js',
        nb_execution_mode='off', nb_merge_streams=True, nb_ipywidgets_js={}, add_module_names=False, toc_object_entries=True,
        myst_enable_extensions=['amsmath', 'attrs_inline', 'colon_fence', 'deflist', 'dollarmath'], myst_heading_anchors=4,
        suppress_warnings=['myst.header', 'mystnb.unknown_mime_type'])

def build_sphinx(out):
    sys.path.insert(0, str(ROOT)); os.chdir(ROOT)
    site = website(); order = [n for _,ns in floors(site['sidebar']['contents']) for n in ns]
    missing = [n for n in order if not (NBS/f'{n}.ipynb').exists()]
    if missing: sys.exit(f'_quarto.yml lists notebooks that do not exist in nbs/: {", ".join(missing)}')
    os.environ['IN_TEST'] = '1'                                  # nbdev: read only, rewrite no index
    nbs = {n: process(NBS/f'{n}.ipynb') for n in order}
    card_re = re.compile(r'^:::::\{py:\w+\} (\w+)\(.*\n:module: (\S+)', re.M)
    own = {n: {m[1]: f'#{m[2]}.{m[1]}' for c in nb.cells if c.cell_type == 'markdown' for m in [card_re.match(c.source)] if m} for n,nb in nbs.items()}
    known = {k:v for d in reversed(own.values()) for k,v in d.items()}
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils
    import nbformat
    with tempfile.TemporaryDirectory() as tmp:
        src,static = Path(tmp)/'src',Path(tmp)/'static'
        shutil.copytree(NBS, src, ignore=shutil.ignore_patterns('*.ipynb', '.*', '_*', '*.yml'))
        static.mkdir(); mathjax(static); shutil.copy(ROOT/'docs/site.css', static)
        for n,nb in nbs.items():
            nb = clean(nb, {**known, **own[n]})
            if n == 'index': nb.cells.append(nbformat.v4.new_markdown_cell('\n\n'.join(toctrees(site['sidebar']['contents']))))
            nbformat.validate(nb); nbformat.write(nb, src/f'{n}.ipynb')
        with patch_docutils(), docutils_namespace():
            app = Sphinx(src, None, Path(tmp)/'html', Path(tmp)/'doctrees', 'html', confoverrides=conf(site, static), status=None, warningiserror=True)
            app.build()
        if app.statuscode: sys.exit('the site has warnings (above); nothing was written')
        shutil.rmtree(out, ignore_errors=True); shutil.copytree(Path(tmp)/'html', out, ignore=shutil.ignore_patterns('.buildinfo'))
    return len(nbs)

def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument('--out', type=Path, default=ROOT/'_docs', help='folder to write')
    a.add_argument('--sphinx', action='store_true', help='use Sphinx even where Quarto is installed')
    a = a.parse_args(); t = time.time()
    if shutil.which('quarto') and not a.sphinx and a.out == ROOT/'_docs':
        print('Quarto is installed: nbdev-docs', flush=True)
        return subprocess.run(['nbdev-docs'], cwd=ROOT).returncode
    n = build_sphinx(a.out.resolve())
    print(f'{n} pages in {a.out}/index.html, {time.time()-t:.0f} s')

if __name__ == '__main__': sys.exit(main())
