"""The contract's messages and stubs, generated from `protos/llmspell/v1`."""
