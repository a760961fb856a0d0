"""The one public door: keys, tenants, routing and the command line."""
