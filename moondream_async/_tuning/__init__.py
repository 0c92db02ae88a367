"""Moondream Cloud's tuning API: finetunes by reinforcement and by examples."""
