"""fal.ai's wire, as far as Moondream is offered there: queue, results, files, webhooks; under `/fal` of the sandbox."""
