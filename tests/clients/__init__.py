"""Clients in other languages, generated from the contract, that tests run against a deployment."""
