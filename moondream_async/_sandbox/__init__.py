"""A local server with the HTTP APIs of Moondream and fal.ai that computes its answers from pixels."""
