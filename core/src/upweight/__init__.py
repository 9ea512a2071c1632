"""Which training examples made a model behave as it does, at any scale.

A name is imported when it is first used, from where `__init__.pyi` says: `upweight --help` starts
without NumPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
