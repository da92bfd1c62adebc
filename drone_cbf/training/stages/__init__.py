"""The three training stages: ``efficiency``, ``pretraining`` and ``safety``."""
