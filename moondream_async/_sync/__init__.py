"""The blocking facade: a portal to an event loop, and the generated clients."""
