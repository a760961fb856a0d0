"""Schemas of items, and how the items of one version become those of another.

| module | what it has |
|---|---|
| `model` | schemas, transforms and migrations, as they are kept |
| `rules` | what may not be put |
| `documents` | an item's JSON, opened no further than is needed |
| `transforms` | what each transform does to one document |
| `typed` | the same for many, without a look at what only passes through |
| `transformer` | from one version to another, by the quickest way that holds |
| `schemas` | the schemas of all tenants |
| `passes` | what a migration does inside its transactions |
| `plans` | what one would do |
| `migrations` | migrations of all tenants, in the background |
"""
