"""HTTP: the door for the provider's webhooks, health and metrics."""
