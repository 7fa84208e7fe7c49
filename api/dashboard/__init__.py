"""The dashboard: pages at `/`, and what they show that no other route of the API answers with."""
