"""The three learning stages: ``efficiency``, ``pretraining`` and ``safety``."""
