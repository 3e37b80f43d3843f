"Adversarial robustness: learn it, use it, judge it"

__version__ = "0.1.0"
