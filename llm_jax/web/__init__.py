"""From web pages to documents: crawl, extraction, rules, deduplication."""
