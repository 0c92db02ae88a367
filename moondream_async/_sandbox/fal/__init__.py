"""The parts of fal.ai's API that its Moondream endpoints use: queue, files, webhooks; under `/fal` of the sandbox."""
