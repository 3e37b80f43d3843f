"Imports only go down: a room imports from lower numbers, a paper's room (30 to 80) from floors 0 to 2 only"
import ast, json, re
from pathlib import Path
import pytest

NBS = Path(__file__).parents[1]/'nbs'
HANDWRITTEN = {'vision': 0}                                      # modules without a notebook, and the number they count as

def rooms():
    "Module -> number of its notebook"
    found = dict(HANDWRITTEN)
    for p in NBS.glob('[0-9][0-9]_*.ipynb'):
        src = ''.join(''.join(c['source']) + '\n' for c in json.loads(p.read_text())['cells'])
        if m := re.search(r'^#\| default_exp (\w+)', src, flags=re.M): found[m.group(1)] = int(p.name[:2])
    return found

def imports(source):
    "Modules of spat_nb that exported code imports"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or '').startswith('spat_nb')):
            name = (node.module or '').removeprefix('spat_nb').lstrip('.')
            yield from [name] if name else [a.name for a in node.names]
        if isinstance(node, ast.Import): yield from (a.name.split('.')[1] for a in node.names if a.name.startswith('spat_nb.'))

def faults(source, number, rooms):
    "Imports of `source`, a room with `number`, that do not go down"
    for m in imports(source):
        if m not in rooms: yield f"imports {m}, which no notebook makes"
        elif rooms[m] >= number and rooms[m]: yield f"imports {m} ({rooms[m]:02}), which does not lie below {number:02}"
        elif 30 <= number < 90 and rooms[m] >= 30: yield f"imports {m} ({rooms[m]:02}): a paper's room uses floors 0 to 2 only"

def test_every_room_imports_downwards():
    found = rooms()
    assert len(found) >= 10
    bad = {m: f for m,n in found.items() if (f := list(faults((NBS.parent/'spat_nb'/f'{m}.py').read_text(), n, found)))}
    assert not bad, bad

@pytest.mark.parametrize('source,number,n', [('from .attack import pgd', 10, 1), ('from spat_nb.attack import pgd', 20, 0), ('import spat_nb.spat', 50, 1),
                                             ('from . import spat', 50, 1), ('from .nothing import x', 90, 1), ('def f():\n    from .attack import pgd', 3, 1)])
def test_the_rule_itself(source, number, n):
    assert len(list(faults(source, number, {'attack': 12, 'spat': 40}))) == n
