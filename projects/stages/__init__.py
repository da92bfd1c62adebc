"""The work of the four stages: ``efficiency``, ``pretrain_cbf``, ``safety`` and ``evaluate``."""
