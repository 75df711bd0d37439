"""eGuard: endpoint detection as a reproducible workbench. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
