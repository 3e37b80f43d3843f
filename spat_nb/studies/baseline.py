"What the usual ways of training give, in one recipe"
from functools import partial
from spat_nb.attack import gaussian, pgd
from spat_nb.objectives import pgd_at, standard, trades
from spat_nb.study import Arm, Study

study = Study('baseline', 'How robust are the usual ways of training, in one recipe?', {
    'standard': Arm(standard),
    'PGD-AT': Arm(pgd_at),
    'TRADES': Arm(partial(trades, beta=6.), partial(pgd, start=gaussian())),
})
