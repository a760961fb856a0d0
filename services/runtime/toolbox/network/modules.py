"""The modules of tools that speak with other machines."""

from __future__ import annotations

from services.runtime.toolbox.network import (
    api_tester,
    database_connector,
    email_sender,
    graphql_query,
    http_requester,
    rss_reader,
    service_checker,
    sitemap_crawler,
    url_analyzer,
    web_scraper,
    web_searcher,
    webhook_caller,
    webpage_monitor,
)

NETWORK = (
    api_tester,
    database_connector,
    email_sender,
    graphql_query,
    http_requester,
    rss_reader,
    service_checker,
    sitemap_crawler,
    url_analyzer,
    web_scraper,
    web_searcher,
    webhook_caller,
    webpage_monitor,
)
"""Each has its tools in `TOOLS`."""
