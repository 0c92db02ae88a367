"""A local server that speaks Moondream's and fal.ai's wire, and answers from pixels."""
