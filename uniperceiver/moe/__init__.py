"""CONDITIONAL MIXTURE-OF-EXPERTS: experts chosen by token, context, modality, task or attributes."""
