"""Crawling: polite, breadth first, resumable, into WARC."""
