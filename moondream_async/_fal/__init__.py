"""fal.ai: its queue, files and webhooks."""
