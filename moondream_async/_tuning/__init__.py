"""Moondream Cloud's tuning API: reinforcement learning and supervised fine-tuning."""
